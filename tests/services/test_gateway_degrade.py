"""What is missing is reported, and the call is answered all the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.features import VIEWS, Entity
from ranking.types import Float32Array
from services.feature_store.port import FeatureRows
from tests.deploy.releases import alter, build_release
from tests.services.gateway_fakes import USER, Gateway, activate, ads, eventually, gateway, reasons, search

USER_VIEWS, ITEM_VIEWS = ([v for v in VIEWS if v.entity is e] for e in Entity)


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
    """The order of last resort is the caller's; an ad then costs its bid, there being no probability for a second price."""
    gw.models.gone |= {"bert", "trees"}
    request = ads(5, policy="none")
    answer = await gw.rank(request)
    assert list(answer.results.candidate_indices) == [0, 1, 2, 3, 4]
    assert list(answer.results.price_micros) == list(request.candidates.bid_micros)
    detail = next(d.detail for d in answer.degradations if d.component == "blend")
    assert "sorted by candidate order" in detail
    assert "`scores` holds 0" in detail
    assert "its bid" in detail


async def test_an_ad_nobody_could_score_costs_its_bid_beside_ads_with_second_prices(gw: Gateway) -> None:
    """With trees gone only `i9` has no probability: it pays its bid, the others at most theirs and not all of it."""
    gw.models.gone.add("trees")
    request = ads(10, policy="none")
    answer = await gw.rank(request)
    bids = dict(zip(request.candidates.item_ids, request.candidates.bid_micros, strict=True))
    prices = dict(zip(answer.results.item_ids, answer.results.price_micros, strict=True))
    assert prices["i9"] == bids["i9"]
    assert sum(prices.values()) < sum(bids.values())
    assert all(prices[i] <= bids[i] for i in bids)


@pytest.mark.parametrize(("broken", "left"), [("bert", "trees"), ("trees", "bert")])
async def test_a_member_with_a_bug_is_left_out_and_the_cause_logged_once(
    gw: Gateway, caplog: pytest.LogCaptureFixture, broken: str, left: str
) -> None:
    """An exception nobody foresaw in one member is ERROR for it, the other takes the whole weight, the text stays in the log."""
    infer = gw.models.infer

    async def faulty(model: str, *rest: Any) -> Float32Array:
        if model == broken:
            raise KeyError("secret")
        return await infer(model, *rest)

    gw.models.infer = faulty  # type: ignore[method-assign]
    answer = await gw.rank(search(9, explain=pb.EXPLAIN_LEVEL_SCORES))
    assert reasons(answer) == {f"member:{broken}": "ERROR"}
    assert "secret" not in answer.degradations[0].detail
    assert {m.member: m.weight for m in answer.explanations[0].members} == {broken: 0.0, left: 1.0}
    assert caplog.messages.count("member_failed") == 1
    assert "secret" in caplog.text


async def test_a_text_member_whose_inputs_have_other_names_is_left_out(gw: Gateway, home: Path) -> None:
    """A release that names inputs the tokeniser's tensors do not have degrades that member."""
    build_release(gw.layout.releases, "r2", 2)
    alter(gw.layout.releases, "r2", lambda m: next(x for x in m["members"] if x["name"] == "bert")["inputs"][0].update(name="other"))
    activate(home, "r2")

    async def switched() -> bool:
        return (await gw.rank(search(1))).release == "r2"

    await eventually(switched)
    assert reasons(await gw.rank(search(5))) == {"member:bert": "ERROR"}


async def test_a_feature_member_with_too_few_scores_is_left_out(gw: Gateway) -> None:
    """Scores that cannot belong to the list are no scores."""
    infer = gw.models.infer

    async def short(model: str, *rest: Any) -> Float32Array:
        out = await infer(model, *rest)
        return out[1:] if model == "trees" else out

    gw.models.infer = short  # type: ignore[method-assign]
    assert reasons(await gw.rank(search(5))) == {"member:trees": "ERROR"}


async def test_a_user_row_that_makes_no_sense_leaves_defaults(
    gw: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """History lists of unequal length: the user counts as unknown, ERROR says so, and the fault is logged."""
    monkeypatch.setitem(USER, "history_item_keys", [1, 2])
    monkeypatch.setitem(USER, "history_counts", [1.0])
    answer = await gw.rank(search(5))
    assert reasons(answer) == {"features:user": "ERROR"}
    assert len(answer.results.item_ids) == 5
    assert caplog.messages.count("feature_read_failed") == 1


async def test_an_item_read_with_a_bug_leaves_defaults(gw: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """An exception nobody foresaw in the store is ERROR for the items, and the call is answered."""
    read = gw.store.read

    def faulty(entity: Entity, ids: Sequence[str]) -> FeatureRows:
        if entity is Entity.ITEM:
            raise KeyError("secret")
        return read(entity, ids)

    gw.store.read = faulty  # type: ignore[method-assign]
    answer = await gw.rank(search(5))
    assert reasons(answer) == {"features:item": "ERROR"}
    assert "secret" in caplog.text


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
    """The answer is whole; every view of the user counts as missing."""
    answer = await gw.rank(search(5, user_id=user_id))
    assert reasons(answer) == {"features:user": "NOT_FOUND"}
    assert (answer.feature_freshness.missing, answer.feature_freshness.fresh) == (len(USER_VIEWS), len(ITEM_VIEWS) * 5)
    assert len(answer.results.item_ids) == 5


async def test_unknown_items_are_ranked_as_new_and_flagged(gw: Gateway) -> None:
    """An unknown item takes part with declared defaults, in the group `new`."""
    request = search(2, explain=pb.EXPLAIN_LEVEL_FULL)
    request.candidates.item_ids.append("unheard-of")
    answer = await gw.rank(request)
    assert reasons(answer) == {"features:item": "NOT_FOUND", "attributions": "UNAVAILABLE"}  # these models have nothing to explain them
    assert "1 of 3 items" in answer.degradations[0].detail
    unknown = next(e for e in answer.explanations if e.item_id == "unheard-of")
    assert unknown.group == "new"
    assert unknown.freshness["item_profile"] == "missing"
    assert answer.feature_freshness.missing == len(ITEM_VIEWS)


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
    async with gateway(home, budget_ms=1000.0) as gw:
        gw.models.hung.add("bert")
        answer = await gw.rank(search(8))
        assert reasons(answer) == {"member:bert": "DEADLINE"}
        gw.models.release.set()

        async def kept() -> bool:
            return not reasons(await gw.rank(search(8)))

        await eventually(kept)
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
    assert reasons(answer) == {"column:mood": "IGNORED", "attributions": "UNAVAILABLE"}
    assert {e.item_id: e.features["on_display"] for e in answer.explanations} == {"i0": 1.0, "i1": 0.0, "i2": 1.0}


async def test_stale_rows_are_served_and_counted(gw: Gateway) -> None:
    """Rows older than a view's ttl (14 days for all but the profiles) count as stale."""
    gw.store.event_time = time.time() - 15 * 86400
    answer = await gw.rank(search(5))
    assert (answer.feature_freshness.stale, answer.feature_freshness.fresh) == (len(USER_VIEWS) - 1 + (len(ITEM_VIEWS) - 1) * 5, 1 + 5)
    assert not answer.degradations


async def test_a_fixed_clock_decides_freshness_when_history_is_replayed(home: Path) -> None:
    """With `as_of` 2017 rows are fresh in 2017's eyes."""
    async with gateway(home, as_of="2017-11-19T00:00:00Z") as gw:
        gw.store.event_time = 1510876800.0  # 2017-11-17
        answer = await gw.rank(search(5))
        assert answer.feature_freshness.stale == 0
        assert np.sum([answer.feature_freshness.fresh]) == len(USER_VIEWS) + len(ITEM_VIEWS) * 5
