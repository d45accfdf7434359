"""What a good call is answered with."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.assemble import assemble, item_features, user_features
from ranking.blend import blend
from ranking.features import MODEL_COLUMNS, VIEWS, stable_key
from ranking.layout import Layout
from ranking.text import pair_tensors
from ranking.types import Surface
from services.gateway import pipeline
from services.gateway.releases import load
from tests.deploy.releases import alter, bert_logits, trees_logits
from tests.services.gateway_fakes import USER, Gateway, ads, bad_request, gateway, item, search


async def test_an_answer_ranks_every_candidate_once_and_says_what_made_it(gw: Gateway) -> None:
    """All candidates come back once, with release, versions, policy, freshness and stage times."""
    answer = await gw.rank(search(20, request_id="mine"))
    assert sorted(answer.results.candidate_indices) == list(range(20))
    assert list(answer.results.item_ids) == [f"i{i}" for i in answer.results.candidate_indices]
    assert (answer.request_id, answer.release, answer.policy, answer.policy_version) == ("mine", "r1", "floors", "1")
    assert dict(answer.model_versions) == {"trees": "1", "bert": "1"}
    assert answer.feature_freshness.fresh == 3 + 3 * 20  # three views of the user, three of each item
    assert not answer.degradations
    assert not answer.explanations
    assert {"convert", "features", "assemble", "score", "score.bert", "score.trees", "blend", "fairness", "total"} <= set(
        answer.stage_durations
    )


async def test_ads_are_ordered_by_bid_times_probability_and_priced_below_the_bid(gw: Gateway) -> None:
    """The score of an ad is bid × probability in micros, and its price is at most its bid."""
    request = ads(20)
    answer = await gw.rank(request)
    bids = np.array(request.candidates.bid_micros)[answer.results.candidate_indices]
    assert np.array(answer.results.scores) == pytest.approx(bids * np.array(answer.results.probabilities))
    assert (np.array(answer.results.price_micros) <= bids).all()


async def test_ties_stand_in_candidate_order(gw: Gateway) -> None:
    """Items that nothing tells apart come back as they were sent, whatever their ids."""
    request = search(0, policy="none")
    request.candidates.item_ids.extend(["zz", "aa", "mm", "bb"])  # all unknown: the same defaults
    answer = await gw.rank(request)
    assert len(set(answer.results.scores)) == 1
    assert list(answer.results.item_ids) == ["zz", "aa", "mm", "bb"]


async def test_top_k_cuts_the_list_and_more_than_there_are_means_all(gw: Gateway) -> None:
    """top_k of 3 returns the first 3 of the whole ranking; top_k of 100 returns all 7."""
    whole = await gw.rank(search(7, policy="none"))
    assert list((await gw.rank(search(7, policy="none", top_k=3))).results.item_ids) == list(whole.results.item_ids)[:3]
    assert list((await gw.rank(search(7, policy="none", top_k=100))).results.item_ids) == list(whole.results.item_ids)


async def test_floors_hold_at_every_prefix(gw: Gateway) -> None:
    """Among the first j results at least floor(0.3·j) are tail and floor(0.1·j) are new."""
    answer = await gw.rank(search(30, explain=pb.EXPLAIN_LEVEL_SCORES))
    groups = [e.group for e in answer.explanations]
    for j in range(1, 31):
        assert groups[:j].count("tail") >= (3 * j) // 10
        assert groups[:j].count("new") >= j // 10


@given(n=st.integers(1, 60), seed=st.integers(0, 1000), surface=st.sampled_from(["search", "ads"]))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_re_ranking_never_changes_a_probability(home: Path, n: int, seed: int, surface: str) -> None:
    """Probabilities are bit-identical with and without the fairness policy; only the order differs."""
    async with gateway(home) as gw:
        chosen = np.random.default_rng(seed).choice(200, n, replace=False)
        request = ads(n) if surface == "ads" else search(n)
        request.candidates.item_ids[:] = [f"i{i}" for i in chosen]
        found = []
        for policy in ("none", "floors"):
            request.policy = policy
            results = (await gw.rank(request)).results
            found.append(dict(zip(results.item_ids, results.probabilities, strict=True)))
        assert found[0] == found[1]


async def test_exposure_reports_the_list_with_and_without_floors(gw: Gateway) -> None:
    """Counts before and after add up to the results, and the floors' shares are named."""
    answer = await gw.rank(search(30, top_k=10))
    exposure = {g.group: g for g in answer.exposure}
    assert {g: exposure[g].target_share for g in exposure} == {"head": 0.0, "tail": 0.3, "new": 0.1}
    assert sum(g.count for g in answer.exposure) == sum(g.count_before for g in answer.exposure) == 10
    assert sum(g.exposure for g in answer.exposure) == pytest.approx(1.0)
    assert sum(g.candidates for g in answer.exposure) == 30


async def test_a_policy_that_is_off_leaves_the_order_by_score(gw: Gateway) -> None:
    """Mode `off` neither re-ranks nor reports."""
    answer = await gw.rank(search(30, policy="none"))
    assert list(answer.results.scores) == sorted(answer.results.scores, reverse=True)
    assert not answer.exposure


async def test_report_only_says_what_floors_would_do_and_leaves_the_order(home: Path) -> None:
    """Mode `report_only` returns the order by score with the report of the enforced list."""
    by_mode = {}
    for mode in ("enforce", "report_only"):
        alter(Layout(home).releases, "r1", lambda m, mode=mode: m["policies"][0].update(mode=mode))
        async with gateway(home) as gw:
            by_mode[mode] = await gw.rank(search(30, top_k=10))
    for line in by_mode["report_only"].exposure:  # what the first list left owed is in the second one's report
        line.debt = 0.0
    assert by_mode["report_only"].exposure == by_mode["enforce"].exposure
    scores = list(by_mode["report_only"].results.scores)
    assert scores == sorted(scores, reverse=True)


async def test_bids_below_the_reserve_take_no_part(home: Path) -> None:
    """They are dropped with BELOW_RESERVE, and nobody pays less than the reserve."""
    alter(Layout(home).releases, "r1", lambda m: m["policies"][0].update(reserve_micros=104_000))
    async with gateway(home) as gw:
        request = ads(9)  # bids 100,000 … 108,000
        answer = await gw.rank(request)
    assert [(d.index, d.reason) for d in answer.dropped] == [(i, "BELOW_RESERVE") for i in range(4)]
    assert sorted(answer.results.candidate_indices) == [4, 5, 6, 7, 8]
    assert min(answer.results.price_micros) >= 104_000
    assert sum(g.candidates for g in answer.exposure) == 5


async def test_a_list_of_which_every_bid_is_below_the_reserve_is_empty(home: Path) -> None:
    """Nobody competes: no results, every candidate dropped, no error."""
    alter(Layout(home).releases, "r1", lambda m: m["policies"][0].update(reserve_micros=10**9))
    async with gateway(home) as gw:
        answer = await gw.rank(ads(3, explain=pb.EXPLAIN_LEVEL_FULL))
    assert (len(answer.results.item_ids), len(answer.dropped)) == (0, 3)


async def test_validate_only_checks_without_ranking(gw: Gateway) -> None:
    """A good request is answered with its id and release and no results; models and store are not asked."""
    answer = await gw.rank(search(5, validate_only=True, request_id="q"))
    assert (answer.request_id, answer.release, list(answer.results.item_ids)) == ("q", "r1", [])
    assert not gw.models.calls
    assert ("user", ("u",)) not in gw.store.reads


async def test_explanations_add_up(gw: Gateway) -> None:
    """The weights of each result sum to 1 and follow its group, ranks are those of the two orders, FULL adds row and freshness."""
    by_score = await gw.rank(search(30, policy="none"))
    before = {item: i + 1 for i, item in enumerate(by_score.results.item_ids)}
    for level in (pb.EXPLAIN_LEVEL_SCORES, pb.EXPLAIN_LEVEL_FULL):
        answer = await gw.rank(search(30, explain=level))
        assert [e.item_id for e in answer.explanations] == list(answer.results.item_ids)
        for i, e in enumerate(answer.explanations):
            assert (e.rank, e.rank_before) == (i + 1, before[e.item_id])
            assert sum(m.weight for m in e.members) == pytest.approx(1.0)
            assert (e.probability, e.score) == (answer.results.probabilities[i], answer.results.scores[i])
            assert (e.binding_floor == e.group) if e.rank < e.rank_before else not e.binding_floor
            if level == pb.EXPLAIN_LEVEL_FULL:
                assert set(e.features) == set(MODEL_COLUMNS)
                assert set(e.freshness) == {v.name for v in VIEWS}
            else:
                assert not e.features
                assert not e.freshness


async def test_scores_are_what_the_core_computes_from_the_same_rows(gw: Gateway) -> None:
    """Gateway path = calling assemble, the models and blend by hand on the same stored values: bit for bit."""
    n = 25
    answer = await gw.rank(search(n, policy="none", query="Frozen PIZZA, ice"))
    rows = [item(i) for i in range(n)]
    items = item_features(np.array([stable_key(f"i{i}") for i in range(n)]), {name: [r[name] for r in rows] for name in rows[0]})
    loaded = load(gw.layout.releases, "r1")
    query = loaded.tokens("frozen pizza ice")
    assert len(query) == 3
    matrix = assemble(user_features(USER), items, query_tokens=query, columns={})
    text = bert_logits(pair_tensors(query, items.token_ids, loaded.release.tokenizer.special)).astype(np.float64)
    text[items.text_digests == 0] = np.nan
    expected = blend(loaded.release.blends[Surface.SEARCH], np.stack([trees_logits(matrix).astype(np.float64), text]), items.tiers)
    assert list(answer.results.probabilities) == expected.probabilities[answer.results.candidate_indices].tolist()


async def test_batch_lists_have_their_own_outcomes(gw: Gateway) -> None:
    """A bad list carries its error, code and fields; the others are answered as single calls would be."""
    answer = await gw.batch(search(5), search(0), ads(4), search(3, policy="nope"))
    kinds = [o.WhichOneof("outcome") for o in answer.outcomes]
    assert kinds == ["response", "error", "response", "error"]
    assert [o.error.code for o in answer.outcomes if o.HasField("error")] == [
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
        grpc.StatusCode.NOT_FOUND.value[0],
    ]
    assert answer.outcomes[1].error.field_violations[0].field == "candidates.item_ids"
    assert answer.outcomes[0].response.results == (await gw.rank(search(5))).results


@pytest.mark.parametrize("count", [0, 33])
async def test_a_batch_of_none_or_too_many_is_refused(gw: Gateway, count: int) -> None:
    """1 to 32 lists; anything else is INVALID_ARGUMENT on `requests`."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.batch(*[search(1)] * count)
    assert bad_request(caught.value) == {"requests": f"need 1 to 32 requests, got {count}"}


async def test_a_bug_is_internal_and_keeps_its_text_to_the_log(
    gw: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception nobody foresaw: INTERNAL without its message for a single call, and for one list of a batch only."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(pipeline, "assemble", broken)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.rank(search(1))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    assert "secret" in caplog.text
    outcome = (await gw.batch(search(1), search(0))).outcomes
    assert [o.error.code for o in outcome] == [grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]]
