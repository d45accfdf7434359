"""Lists ranked by several outcomes at once, from models or from the caller's columns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.errors import InvalidRelease
from ranking.layout import Layout
from services.gateway.releases import load
from tests.deploy.releases import alter
from tests.services.gateway_fakes import add_policy, ads, bad_request, gateway, reasons, search

N = 12
CONVERSION = [float(np.float32(0.9 - i / 20)) for i in range(N)]


def with_column(request: pb.RankRequest, name: str = "p_conversion", values: list[float] | None = None) -> pb.RankRequest:
    request.candidates.columns.add(name=name, values=CONVERSION if values is None else values)
    return request


def scores(answer: pb.RankResponse) -> dict[int, tuple[float, float]]:
    """candidate -> (score, probability)."""
    return dict(zip(answer.results.candidate_indices, zip(answer.results.scores, answer.results.probabilities, strict=True), strict=True))


async def test_the_score_is_the_weighted_mean_of_the_outcomes(home: Path) -> None:
    """3 parts click and 1 part conversion from the column: (3 · click + conversion) / 4; the probability stays that of a click."""
    add_policy(home, "p", objectives={"click": 3.0, "conversion": 1.0})
    async with gateway(home) as gw:
        plain = scores(await gw.rank(search(N, policy="none")))
        answer = await gw.rank(with_column(search(N, explain=pb.EXPLAIN_LEVEL_SCORES)))
    assert not answer.degradations
    for i, (score, click) in scores(answer).items():
        assert click == plain[i][1]
        assert score == pytest.approx((3 * click + CONVERSION[i]) / 4)
    for e in answer.explanations:
        assert dict(e.objectives) == {"click": e.probability, "conversion": CONVERSION[int(e.item_id[1:])]}


async def test_clicks_alone_are_the_probability_itself(home: Path) -> None:
    """Whatever the weight of the only objective, the score is the blended probability, bit for bit, and nothing is listed."""
    add_policy(home, "p", objectives={"click": 3.0, "conversion": 0.0})
    async with gateway(home) as gw:
        answer = await gw.rank(search(N, explain=pb.EXPLAIN_LEVEL_SCORES))
    assert all(score == click for score, click in scores(answer).values())
    assert not any(e.objectives for e in answer.explanations)


async def test_an_outcome_nobody_knows_leaves_its_weight_to_the_others(home: Path) -> None:
    """Neither a blend nor a column: ranked by the rest, and a degradation says which outcome is absent."""
    add_policy(home, "p", objectives={"click": 1.0, "conversion": 1.0, "satisfaction": 2.0})
    async with gateway(home) as gw:
        answer = await gw.rank(with_column(search(N)))
    assert reasons(answer) == {"objective:satisfaction": "ABSENT"}
    for i, (score, click) in scores(answer).items():
        assert score == pytest.approx((click + CONVERSION[i]) / 2)


async def test_without_any_outcome_it_wants_a_policy_ranks_by_clicks(home: Path) -> None:
    """Only conversion counts and nobody knows it: the probability of a click decides."""
    add_policy(home, "p", objectives={"conversion": 1.0})
    async with gateway(home) as gw:
        answer = await gw.rank(search(N))
        known = await gw.rank(with_column(search(N)))
    assert reasons(answer) == {"objective:conversion": "ABSENT"}
    assert all(score == click for score, click in scores(answer).values())
    assert list(known.results.candidate_indices) == list(range(N))  # the column descends


async def test_a_releases_blend_scores_an_outcome_with_one_call_per_member(home: Path) -> None:
    """A conversion blend over `trees` and `bert` asks neither model twice, and its probability comes before the column's."""
    store = Layout(home).releases

    def change(manifest: dict[str, Any]) -> None:
        blend = manifest["blends"]["search"]
        manifest["objectives"] = {"search": {"conversion": blend | {"final": {"kind": "platt", "a": 1.0, "b": -2.0}}}}

    add_policy(home, "p", objectives={"click": 1.0, "conversion": 1.0})
    alter(store, "r1", change)
    async with gateway(home) as gw:
        answer = await gw.rank(with_column(search(N, explain=pb.EXPLAIN_LEVEL_SCORES)))
        asked = [model for model, _, _ in gw.models.calls]
    assert not answer.degradations
    assert sorted(asked) == ["bert", "trees"]
    for e in answer.explanations:
        odds = math.log(e.probability / (1 - e.probability)) - 2.0  # the same pool, another calibrator
        assert e.objectives["conversion"] == pytest.approx(1 / (1 + math.exp(-odds)))
        assert [m.member for m in e.members] == ["trees", "bert"]


async def test_a_member_that_is_gone_leaves_its_outcome_to_the_column(home: Path) -> None:
    """The conversion model does not answer: the column stands in where there is one."""

    def change(manifest: dict[str, Any]) -> None:
        only = {g: [1.0] for g in ("head", "tail", "new")}
        bert = {"members": ["bert"], "weights": only, "calibrators": [{"kind": "identity"}], "final": {"kind": "identity"}}
        manifest["objectives"] = {"search": {"conversion": bert}}

    add_policy(home, "p", objectives={"conversion": 1.0})
    alter(Layout(home).releases, "r1", change)
    async with gateway(home) as gw:
        gw.models.gone.add("bert")
        answer = await gw.rank(with_column(search(N)))
        bare = await gw.rank(search(N))
    assert reasons(answer) == {"member:bert": "UNAVAILABLE"}
    assert [s for s, _ in scores(answer).values()] == pytest.approx(sorted(CONVERSION, reverse=True))
    assert reasons(bare) == {"member:bert": "UNAVAILABLE", "objective:conversion": "ABSENT"}


async def test_without_members_the_callers_outcomes_still_rank(home: Path) -> None:
    """No model answers but the column is there: sorted by it, probabilities 0, and it says so."""
    add_policy(home, "p", objectives={"click": 1.0, "conversion": 1.0})
    async with gateway(home) as gw:
        gw.models.gone |= {"bert", "trees"}
        answer = await gw.rank(with_column(search(N)))
    assert list(answer.results.candidate_indices) == list(range(N))
    assert reasons(answer)["blend"] == "UNAVAILABLE"
    assert set(answer.results.probabilities) == {0.0}


async def test_an_ads_score_is_its_bid_times_what_the_policy_weighs(home: Path) -> None:
    """Quality counts: bid × weighted mean; the price per click is the least bid that keeps the place, at most the bid."""
    add_policy(home, "p", objectives={"click": 1.0, "conversion": 3.0})
    async with gateway(home) as gw:
        request = with_column(ads(N))
        answer = await gw.rank(request)
    results = answer.results
    worth = []
    for i, score, click in zip(results.candidate_indices, results.scores, results.probabilities, strict=True):
        worth.append((click + 3 * CONVERSION[i]) / 4)
        assert score == pytest.approx(request.candidates.bid_micros[i] * worth[-1])
    for place, price in enumerate(results.price_micros):
        following = results.scores[place + 1] if place + 1 < N else 0.0
        assert price == pytest.approx(following / worth[place], abs=1.0)
        assert price <= request.candidates.bid_micros[results.candidate_indices[place]]


@pytest.mark.parametrize(("value", "why"), [(1.5, "got 1.5"), (-0.25, "got -0.25")])
@pytest.mark.parametrize("name", ["p_conversion", "p_satisfaction"])
async def test_a_column_of_probabilities_must_hold_probabilities(home: Path, name: str, value: float, why: str) -> None:
    """INVALID_ARGUMENT names column and candidate."""
    async with gateway(home) as gw:
        request = with_column(search(3), "on_display", [0.0, 1.0, 2.0])
        with_column(request, name, [0.0, 1.0, value])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.rank(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = bad_request(caught.value)
    assert list(found) == ["candidates.columns[1].values[2]"]
    assert why in found["candidates.columns[1].values[2]"]


async def test_a_column_the_policy_gives_no_weight_is_reported(home: Path) -> None:
    """Probabilities sent for nothing are ignored, and said to be."""
    async with gateway(home) as gw:
        answer = await gw.rank(with_column(search(N)))
    assert reasons(answer) == {"column:p_conversion": "IGNORED"}


BLEND = {
    "members": ["trees"],
    "weights": {g: [1.0] for g in ("head", "tail", "new")},
    "calibrators": [{"kind": "identity"}],
    "final": {"kind": "identity"},
}


@pytest.mark.parametrize(
    ("objectives", "key"),
    [
        ({"search": {"click": BLEND}}, "objectives.search.click"),
        ({"search": {"profit": BLEND}}, "objectives.search.profit"),
        ({"search": {"conversion": BLEND | {"members": ["gone"]}}}, "objectives.search.conversion.members"),
        ({"search": {"conversion": {"members": ["trees"]}}}, "objectives.search.conversion.weights"),
        ({"shelf": {"conversion": BLEND}}, "objectives"),
        ({"search": [BLEND]}, "objectives.search"),
        ([], "objectives"),
    ],
)
def test_bad_objectives_of_a_release_are_refused(home: Path, objectives: Any, key: str) -> None:
    """The manifest's key is named."""
    alter(Layout(home).releases, "r1", lambda m: m.update(objectives=objectives))
    with pytest.raises(InvalidRelease) as caught:
        load(Layout(home).releases, "r1")
    assert caught.value.key == key


def test_an_active_policy_must_allow_its_surface(home: Path) -> None:
    """A release whose search policy is for ads only is refused."""
    add_policy(home, "ads-only", surfaces=["ads"])
    with pytest.raises(InvalidRelease, match=r"^active_policy\.search: 'ads-only' is for ads only"):
        load(Layout(home).releases, "r1")


def test_objectives_survive_the_round_trip(home: Path) -> None:
    """JSON → Release → JSON keeps them."""
    alter(Layout(home).releases, "r1", lambda m: m.update(objectives={"search": {"conversion": BLEND}}))
    release = load(Layout(home).releases, "r1").release
    assert release.to_json()["objectives"]["search"]["conversion"]["members"] == ["trees"]
