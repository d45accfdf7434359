"""What is missing is reported, and the call is answered all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from tests.services.gateway_fakes import Gateway, ads, gateway, reasons, search


@pytest.mark.parametrize(("gone", "left"), [("bert", "trees"), ("trees", "bert")])
async def test_a_member_that_is_gone_leaves_the_rest_of_the_blend(gw: Gateway, gone: str, left: str) -> None:
    """The other member takes the whole weight and the degradation names the one that is gone."""
    gw.models.gone.add(gone)
    answer = await gw.rank(search(9, explain=pb.EXPLAIN_LEVEL_SCORES))
    assert reasons(answer) == {f"member:{gone}": "UNAVAILABLE"}
    for explanation in answer.explanations:
        scores = {m.member: m for m in explanation.members}
        assert (scores[gone].HasField("raw"), scores[gone].weight) == (False, 0.0)
        assert (scores[left].HasField("raw"), scores[left].weight) == (True, 1.0)


async def test_without_any_member_the_retrieval_order_stands(gw: Gateway) -> None:
    """All members gone: sorted by retrieval score, ties in input order, probabilities 0, and it says so."""
    gw.models.gone |= {"bert", "trees"}
    request = search(4, policy="none")
    request.candidates.retrieval_scores.extend([0.25, 0.5, 0.75, 0.5])
    answer = await gw.rank(request)
    assert list(answer.results.candidate_indices) == [2, 1, 3, 0]
    assert list(answer.results.scores) == [0.75, 0.5, 0.5, 0.25]
    assert list(answer.results.probabilities) == [0.0] * 4
    assert reasons(answer) == {"member:bert": "UNAVAILABLE", "member:trees": "UNAVAILABLE", "blend": "UNAVAILABLE"}


async def test_without_members_and_retrieval_scores_the_request_order_stands(gw: Gateway) -> None:
    """The order of last resort is the caller's; an ad then costs no more than the reserve."""
    gw.models.gone |= {"bert", "trees"}
    answer = await gw.rank(ads(5, policy="none"))
    assert list(answer.results.candidate_indices) == [0, 1, 2, 3, 4]
    assert list(answer.results.price_micros) == [0] * 5


async def test_items_without_text_are_scored_by_the_others_alone(gw: Gateway) -> None:
    """`i9` has no text: no degradation, the text member simply has no opinion on it."""
    answer = await gw.rank(search(10, explain=pb.EXPLAIN_LEVEL_SCORES))
    assert not answer.degradations
    without = next(e for e in answer.explanations if e.item_id == "i9")
    assert [m.HasField("raw") for m in without.members] == [True, False]


async def test_items_only_the_missing_member_could_score_come_last_with_probability_0(gw: Gateway) -> None:
    """With trees gone nobody can score `i9`: it is last, its probability 0, and that is reported."""
    gw.models.gone.add("trees")
    answer = await gw.rank(search(10, policy="none"))
    assert answer.results.item_ids[-1] == "i9"
    assert answer.results.probabilities[-1] == 0.0
    assert reasons(answer)["blend"] == "PARTIAL"


@pytest.mark.parametrize("user_id", ["", "stranger"])
async def test_an_unknown_user_is_ranked_with_defaults_and_flagged(gw: Gateway, user_id: str) -> None:
    """The answer is whole; the user's two views count as missing."""
    answer = await gw.rank(search(5, user_id=user_id))
    assert reasons(answer) == {"features:user": "NOT_FOUND"}
    assert (answer.feature_freshness.missing, answer.feature_freshness.fresh) == (2, 2 * 5)
    assert len(answer.results.item_ids) == 5


async def test_unknown_items_are_ranked_as_new_and_flagged(gw: Gateway) -> None:
    """An unknown item takes part with declared defaults, in the group `new`."""
    request = search(2, explain=pb.EXPLAIN_LEVEL_FULL)
    request.candidates.item_ids.append("unheard-of")
    answer = await gw.rank(request)
    assert reasons(answer) == {"features:item": "NOT_FOUND"}
    assert "1 of 3 items" in answer.degradations[0].detail
    unknown = next(e for e in answer.explanations if e.item_id == "unheard-of")
    assert unknown.group == "new"
    assert unknown.freshness["item_profile"] == "missing"
    assert answer.feature_freshness.missing == 2


async def test_a_failing_feature_store_leaves_defaults(gw: Gateway) -> None:
    """Both reads failing gives two degradations and a whole list; nothing of it is remembered."""
    gw.store.down = True
    answer = await gw.rank(search(5))
    assert reasons(answer) == {"features:user": "UNAVAILABLE", "features:item": "UNAVAILABLE"}
    assert sorted(answer.results.candidate_indices) == list(range(5))
    gw.store.down = False
    assert not reasons(await gw.rank(search(5)))


async def test_warm_features_survive_a_failing_store(gw: Gateway) -> None:
    """What was read before is still served while the store is down."""
    before = await gw.rank(search(5))
    gw.store.down = True
    after = await gw.rank(search(5))
    assert not after.degradations
    assert after.results == before.results


async def test_a_hanging_feature_store_costs_half_the_budget_at_most(home: Path) -> None:
    """The models still answer on defaults within the budget."""
    async with gateway(home, budget_ms=400.0) as gw:
        gw.store.hold.clear()
        answer = await gw.rank(search(5))
        assert reasons(answer) == {"features:user": "DEADLINE", "features:item": "DEADLINE"}
        assert gw.models.rows("trees") == 5
        gw.store.hold.set()


async def test_a_member_slower_than_the_budget_is_left_out_and_its_scores_are_kept(home: Path) -> None:
    """DEADLINE now; once the late scores have arrived they serve the next call from memory."""
    async with gateway(home, budget_ms=150.0) as gw:
        gw.models.hung.add("bert")
        answer = await gw.rank(search(8))
        assert reasons(answer) == {"member:bert": "DEADLINE"}
        gw.models.release.set()
        await asyncio.sleep(0.05)
        gw.models.calls.clear()
        assert not reasons(await gw.rank(search(8)))
        assert gw.models.rows("bert") == 0


async def test_the_clients_deadline_bounds_the_budget(gw: Gateway) -> None:
    """A client that waits half a second gets an answer within it although the server's own budget is longer."""
    gw.models.hung |= {"bert", "trees"}
    answer = await gw.rank(search(8), timeout=0.5)  # would be DEADLINE_EXCEEDED
    assert reasons(answer) == {"member:bert": "DEADLINE", "member:trees": "DEADLINE", "blend": "UNAVAILABLE"}


async def test_undeclared_columns_are_ignored_and_reported(gw: Gateway) -> None:
    """Declared columns reach the model, others are named with IGNORED."""
    request = search(3, explain=pb.EXPLAIN_LEVEL_FULL)
    request.candidates.columns.add(name="on_display", values=[1, 0, 1])
    request.candidates.columns.add(name="mood", values=[1, 2, 3])
    answer = await gw.rank(request)
    assert reasons(answer) == {"column:mood": "IGNORED"}
    assert {e.item_id: e.features["on_display"] for e in answer.explanations} == {"i0": 1.0, "i1": 0.0, "i2": 1.0}


async def test_stale_rows_are_served_and_counted(gw: Gateway) -> None:
    """Rows older than a view's ttl (14 days for behaviour and statistics) count as stale."""
    gw.store.event_time = time.time() - 15 * 86400
    answer = await gw.rank(search(5))
    assert (answer.feature_freshness.stale, answer.feature_freshness.fresh) == (1 + 5, 1 + 5)
    assert not answer.degradations


async def test_a_fixed_clock_decides_freshness_when_history_is_replayed(home: Path) -> None:
    """With `as_of` 2017 rows are fresh in 2017's eyes."""
    async with gateway(home, as_of="2017-11-19T00:00:00Z") as gw:
        gw.store.event_time = 1510876800.0  # 2017-11-17
        answer = await gw.rank(search(5))
        assert answer.feature_freshness.stale == 0
        assert np.sum([answer.feature_freshness.fresh]) == 2 + 2 * 5
