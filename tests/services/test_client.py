"""The Python client: what it sends, and that any answer can be shown."""

from __future__ import annotations

import asyncio
import io
import re
from typing import Any

import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb
from rich.console import Console, RenderableType

from ranking.features import MODEL_COLUMNS, NEVER_DAYS
from ranking.types import Explain, Surface
from services.client import render, words
from services.client.client import RankingClient, rank_request
from services.gateway.convert import to_request
from tests.services.gateway_fakes import Gateway, ads, search

MICROS = 1_000_000


def shown(part: RenderableType) -> str:
    """As a wide terminal without colours would show it."""
    console = Console(file=io.StringIO(), width=240, no_color=True)
    console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_search_request_says_what_was_asked_for() -> None:
    """Every argument stands in its field, and there are no bids."""
    sent = rank_request(
        Surface.SEARCH,
        ["a", "b"],
        user_id="u",
        query="ice",
        retrieval_scores=[0.5, 0.25],
        columns={"on_display": [1.0, 0.0]},
        top_k=1,
        policy="floors",
        release="r1",
        explain=Explain.FULL,
        request_id="q",
    )
    assert sent == pb.RankRequest(
        request_id="q",
        surface=pb.SURFACE_SEARCH,
        query="ice",
        user_id="u",
        candidates=pb.Candidates(
            item_ids=["a", "b"], retrieval_scores=[0.5, 0.25], columns=[pb.FloatColumn(name="on_display", values=[1.0, 0.0])]
        ),
        top_k=1,
        policy="floors",
        release="r1",
        explain=pb.EXPLAIN_LEVEL_FULL,
    )


def test_an_ads_request_carries_bids_and_leaves_the_rest_to_the_gateway() -> None:
    """What is not given is not set: top_k absent means all candidates."""
    sent = rank_request(Surface.ADS, ["a", "b"], bid_micros=[7, 9])
    assert sent == pb.RankRequest(
        surface=pb.SURFACE_ADS, explain=pb.EXPLAIN_LEVEL_NONE, candidates=pb.Candidates(item_ids=["a", "b"], bid_micros=[7, 9])
    )
    assert not sent.HasField("top_k")


@pytest.mark.parametrize("surface", list(Surface))
@pytest.mark.parametrize("level", list(Explain))
def test_the_gateway_reads_what_the_client_builds(surface: Surface, level: Explain) -> None:
    """Client and gateway are each other's inverse on both surfaces and every level."""
    bids = [5, 6] if surface is Surface.ADS else []
    request = to_request(rank_request(surface, ["a", "b"], user_id="u", bid_micros=bids, explain=level))
    assert (request.surface, request.explain, request.user_id, list(request.candidates.item_ids)) == (surface, level, "u", ["a", "b"])
    assert (request.candidates.bid_micros is None) == (surface is Surface.SEARCH)


async def test_the_client_asks_a_gateway(gw: Gateway) -> None:
    """An answer comes back through the blocking client."""

    def ask() -> Any:
        with RankingClient(gw.server.address, timeout_s=30.0) as client:
            return client.rank(rank_request(Surface.SEARCH, ["i1", "i2"], user_id="u"))

    assert sorted((await asyncio.to_thread(ask)).results.item_ids) == ["i1", "i2"]


async def test_an_answer_is_shown_whole(gw: Gateway) -> None:
    """Ids, titles, groups, marks of what a floor lifted and what the user bought, exposure, release and times."""
    answer = await gw.rank(search(30, top_k=10, explain=pb.EXPLAIN_LEVEL_SCORES))
    lifted = [e for e in answer.explanations if e.binding_floor]
    assert lifted
    bought = {answer.results.item_ids[2]}
    text = shown(render.answer(answer, titles={answer.results.item_ids[0]: "ice cold"}, bids={}, bought=bought))
    lines = text.splitlines()
    for e in answer.explanations:
        line = next(s for s in lines if f" {e.item_id} " in s)
        assert f" {e.group} " in line
        assert (f"{e.rank_before} ↑" in line) == bool(e.binding_floor)
        assert ("✓" in line) == (e.item_id in bought)
        assert f"{e.probability:.4f}" in line
    for expected in (
        "ice cold",
        "trees p (w)",
        "bert p (w)",
        "release r1",
        "bert:1, trees:1",
        "policy floors version 1",
        "stages in ms: total",
    ):
        assert expected in text
    assert "degraded" not in text


async def test_ads_show_bids_and_prices(gw: Gateway) -> None:
    """Money is shown in currency units."""
    request = ads(6)
    answer = await gw.rank(request)
    bids = dict(zip(request.candidates.item_ids, request.candidates.bid_micros, strict=True))
    text = shown(render.answer(answer, titles={}, bids=bids))
    for item, price in zip(answer.results.item_ids, answer.results.price_micros, strict=True):
        line = next(s for s in text.splitlines() if f" {item} " in s)
        assert f"{bids[item] / MICROS:.4f}" in line
        assert f"{price / MICROS:.4f}" in line


async def test_an_answer_without_explanations_is_shown_without_groups(gw: Gateway) -> None:
    """explain NONE: the list and no columns it has nothing for; nothing bought leaves that column out, too."""
    text = shown(render.answer(await gw.rank(search(5, policy="none")), titles={}, bids={}, bought=()))
    assert all(f" i{i} " in text for i in range(5))
    assert "bought" not in text
    assert " was " not in text


async def test_members_without_a_score_and_degradations_are_shown(gw: Gateway) -> None:
    """An absent member is a dash for every item, and every degradation is named."""
    gw.models.gone |= {"bert", "trees"}
    answer = await gw.rank(search(4, explain=pb.EXPLAIN_LEVEL_FULL))
    text = shown(render.answer(answer, titles={}, bids={}))
    assert text.count("—") == 4 * 2
    assert "degraded: " in text
    for d in answer.degradations:
        assert f"{d.component} {d.reason}" in text.replace("\n", " ")


async def test_the_two_lists_side_by_side_mark_what_was_lifted(gw: Gateway) -> None:
    """Lifted results say where from; without explanations there is an empty table and no error."""
    plain = await gw.rank(search(30, top_k=10, explain=pb.EXPLAIN_LEVEL_SCORES, policy="none"))
    fair = await gw.rank(search(30, top_k=10, explain=pb.EXPLAIN_LEVEL_SCORES))
    text = shown(render.before_after(plain, fair, titles={}))
    lifted = [e for e in fair.explanations if e.binding_floor]
    assert text.count("↑ from") == len(lifted) > 0
    assert all(f"{e.item_id}  ↑ from {e.rank_before}" in text for e in lifted)
    assert "↑" not in shown(render.before_after(await gw.rank(search(3)), await gw.rank(search(3)), titles={}))


def test_brackets_in_ids_and_titles_are_text() -> None:
    """What looks like the terminal library's markup is shown as it is."""
    answer = pb.RankResponse(results=pb.Results(item_ids=["x[/y]"], scores=[0.5], probabilities=[0.5], candidate_indices=[0]))
    text = shown(render.answer(answer, titles={"x[/y]": "[bold]milk[/]"}, bids={}))
    assert "x[/y]" in text
    assert "[bold]milk[/]" in text


def test_metrics_show_intervals_and_dashes() -> None:
    """A figure with its interval, without one, and none at all."""
    figures = {"ndcg10": [0.25, 0.2, 0.3], "recall10": [0.5, None, None], "tail_share10": [0.125, None, None]}
    tiers = dict.fromkeys(("all", "head", "tail"), figures) | {"new": {"recall10": None}}
    text = shown(render.metrics({"test": {"search": {"blend": tiers}}}, "test"))
    for expected in ("blend", ".250 [.20, .30]", ".500", ".125", "—"):
        assert expected in text
    assert "predicted/actual" not in text.splitlines()[-1]


def test_calibration_is_told_by_tier() -> None:
    """The blend's predicted over actual and ECE of every tier that has them, with their intervals."""
    figures = {"ndcg10": None, "recall10": None, "tail_share10": None}
    tail = {"recall10": None, "predicted_over_actual": [0.75, 0.5, 1.0], "ece": [0.0625, None, None]}
    tiers = {"all": figures, "head": {"recall10": None}, "tail": tail, "new": {"recall10": None}}
    text = shown(render.metrics({"test": {"ads": {"blend": tiers}}}, "test"))
    assert "ads: predicted/actual of the blend by tier: tail .750 [.50, 1.00], ECE .062" in text


def explained(rank: int = 1, before: int = 1, **fields: Any) -> pb.Explanation:
    return pb.Explanation(**({"item_id": f"i{rank}", "group": "head", "score": 0.05, "rank": rank, "rank_before": before} | fields))


def answered(*explanations: pb.Explanation, **fields: Any) -> pb.RankResponse:
    n = len(explanations)
    results = pb.Results(item_ids=[e.item_id for e in explanations], candidate_indices=range(n), scores=[0.5] * n, probabilities=[0.5] * n)
    return pb.RankResponse(results=results, explanations=explanations, **fields)


def test_a_lifted_result_tells_its_floor_and_what_it_cost() -> None:
    """Rank by score, score, what was owed, the floor with its prefix and attribute, and the cost, in one line under its title."""
    lifted = explained(
        3, 19, score=0.0102, price=0.004, binding_floor="tail", binding_attribute="popularity_tier", binding_prefix=3, cost=0.0161
    )
    both = [pb.GroupExposure(attribute=a, group="tail", ceiling=1.0) for a in ("popularity_tier", "seller")]
    text = shown(render.answer(answered(lifted, exposure=both), titles={"i3": "soda"}, bids={}))
    assert (
        "soda  19th by score 0.0102, +0.0040 for exposure owed, "
        "lifted to 3rd by the floor of tail (popularity tier) within 3 places, which cost 0.0161"
    ) in text


@pytest.mark.parametrize(
    ("before", "fields", "said"),
    [
        (2, {}, "2nd by score 0.0500"),
        (1, {}, "1st by score 0.0500, made room for others"),
        (13, {}, "13th by score 0.0500, moved up to 2nd"),
        (22, {"cost": 0.01}, "22nd by score 0.0500, moved up to 2nd, which cost 0.0100"),
        (2, {"objectives": {"conversion": 0.01, "click": 0.08}}, "2nd by score 0.0500 (click 8.00%, conversion 1.00%)"),
        (5, {"binding_floor": "new"}, "5th by score 0.0500, lifted to 2nd by the floor of new"),
        (1, {"binding_floor": "new"}, "1st by score 0.0500, kept at 2nd by the floor of new"),
    ],
)
def test_where_a_result_stands_in_words(before: int, fields: dict[str, Any], said: str) -> None:
    """What moved a result, and nothing that did not."""
    assert words.standing(explained(2, before, **fields), "{:.4f}".format, attribute=False) == said


def test_the_first_results_and_the_first_lifted_ones_are_told() -> None:
    """Three from the top and two that moved up: a page of words, however long the list."""
    text = shown(render.answer(answered(*(explained(r, 20 + r if r % 2 else r) for r in range(1, 12))), titles={}, bids={}))
    assert re.findall(r" i(\d+)  \S+ by score", text) == ["1", "2", "3", "5", "7"]


FEATURES = {
    "repeat_count": 4.0, "repeat_days": 6.0, "category_share": 0.31, "age_days": 1.0, "price_to_level": 2.4, "on_display": 0.0,
    "tier_code": 1.0, "purchases_28d": 12.0, "purchases_all": 60.0,
}  # fmt: skip
PARTS = {
    "repeat_count": 0.8, "repeat_days": 0.64, "repeat_share": -0.23, "category_share": 0.2, "age_days": 0.1, "query_overlap": 0.004,
    "price_to_level": -0.3, "on_display": -0.4, "tier_code": 0.5, "purchases_28d": 0.25, "purchases_all": -0.25,
}  # fmt: skip


def test_the_strongest_reasons_are_said_in_words() -> None:
    """Three that raise the member's log-odds and three that lower it, strongest first; features that say one thing are added up."""
    told = explained(1, features=FEATURES, attributions=PARTS, attributed_member="trees_ads")
    text = shown(render.answer(answered(told), titles={}, bids={}))
    assert "parts of trees_ads's log-odds" in text
    up = "↑ bought 4× by the user, last 6 days ago +1.21 · a tail item, sold 12× in 28 days +0.50 · "
    assert up + "31% of the user's purchases are of its category +0.20" in text
    assert "↓ not on display −0.40 · 2.4× the user's price level −0.30" in text
    assert "known for" not in text


def test_no_part_is_lost_in_words() -> None:
    """With room for all reasons, what they say adds up to the attributions, but for those too small to be written."""
    told = explained(1, features=FEATURES, attributions=PARTS)
    reasons = words.strongest(told, 99, up=True) + words.strongest(told, 99, up=False)
    parts = [float(reason.rpartition(" ")[2].replace("−", "-")) for reason in reasons]
    assert sum(parts) == pytest.approx(sum(PARTS.values()) - PARTS["query_overlap"], abs=0.005 * len(parts))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("repeat_count", 0.0, "never bought by the user"),
        ("purchases_28d", 0.0, "not sold in 28 days"),
        ("age_days", 1.0, "known for 1 day"),
        ("age_days", 2000.0, "known for 2,000 days"),
        ("days_since_order", NEVER_DAYS, "never"),
        ("tier_code", 1.0, "a tail item"),
        ("promo_rate_28d", 0.0042, "bought at 0.42% of its promotions"),
        ("price_28d", 1234.5, "price 1234.50"),
        ("orders_28d", 12345.0, "the user's 12,345 baskets in 28 days"),
        ("age_code", -1.0, "age code -1"),
        ("brand_new_feature", 0.125, "brand new feature 0.125"),
    ],
)
def test_feature_values_in_words(name: str, value: float, said: str) -> None:
    """Units decide how a number is written; a feature without a phrase of its own is its name and value."""
    assert words.feature(name, value) == said


@pytest.mark.parametrize("name", MODEL_COLUMNS)
def test_every_feature_can_be_said(name: str) -> None:
    """Whatever the model reads has words for nothing, something and never."""
    assert all(words.feature(name, value) for value in (0.0, 0.5, 1.0, NEVER_DAYS, -1.0))


def test_what_each_promise_cost_is_listed_and_added_up() -> None:
    """One line per promise in the order given, the sum below; the optimality gap only where there is one."""
    costs = [
        pb.ConstraintCost(kind="price", attribute="seller", group="acme", cost=-0.001),
        pb.ConstraintCost(kind="floor", attribute="popularity_tier", group="tail", prefix=3, item_id="i1", cost=0.0161),
        pb.ConstraintCost(kind="floor", attribute="popularity_tier", cost=0.0005),
        pb.ConstraintCost(kind="ceiling", attribute="popularity_tier", cost=0.0012),
        pb.ConstraintCost(kind="overlap", cost=0.0005),
    ]
    answer = answered(explained(), fairness=pb.Fairness(utility_before=0.2, utility=0.1827, costs=costs))
    lines = shown(render.answer(answer, titles={"i1": "soda"}, bids={})).splitlines()
    told = [line for line in lines if line.startswith("│ ") and ("of " in line or "at once" in line or "together" in line)]
    for line, (promise, cost) in zip(
        told,
        [
            ("price of acme (seller)", "−0.0010"),
            ("floor of tail (popularity tier) within 3 places", "0.0161"),
            ("all other floors of popularity tier", "0.0005"),
            ("ceilings of popularity tier", "0.0012"),
            ("everything else at once", "0.0005"),
            ("utility 0.2000 → 0.1827 (−8.65%)", "0.0173"),
        ],
        strict=True,
    ):
        assert promise in line
        assert line.endswith(f" {cost} │")
    assert "soda" in told[1]
    assert not any("short of the best" in line for line in lines)
    answer.fairness.optimality_gap = 0.003
    assert "at most 0.30% short of the best possible list" in shown(render.answer(answer, titles={}, bids={}))


def test_money_is_written_as_money() -> None:
    """With bids a score is micros of the currency: costs and prices are written in units of it."""
    costs = [pb.ConstraintCost(kind="floor", attribute="seller", group="acme", prefix=1, item_id="i1", cost=1234.0)]
    answer = answered(explained(score=50_000.0), fairness=pb.Fairness(utility_before=100_000.0, utility=98_766.0, costs=costs))
    answer.results.price_micros.append(7)
    text = shown(render.answer(answer, titles={}, bids={"i1": 1}))
    assert "1st by score 0.0500" in text
    assert "0.001234" in text


def test_exposure_shows_only_columns_that_say_something() -> None:
    """Ceilings, excess, debts, prices and the attribute appear where there are any; many groups are cut and counted."""
    quiet = pb.GroupExposure(attribute="popularity_tier", group="head", ceiling=1.0)
    text = shown(render.answer(answered(explained(), exposure=[quiet]), titles={}, bids={}))
    assert "exposure by popularity tier" in text
    assert not any(word in text for word in ("attribute", "ceiling", "excess", "owed", "more groups"))
    loud = pb.GroupExposure(attribute="seller", group="acme", ceiling=0.5, excess=1, price=0.02, debt=1.5, count=1)
    text = shown(render.answer(answered(explained(), exposure=[quiet, loud, *[quiet] * 20]), titles={}, bids={}))
    assert all(word in text for word in ("attribute", "ceiling", "excess", "owed, in lists", "50%", "0.0200", "1.50", "and 21 more groups"))
