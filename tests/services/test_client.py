"""The Python client: what it sends, and that any answer can be shown."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb
from rich.console import Console, RenderableType

from ranking.types import Explain, Surface
from services.client import render
from services.client.client import RankClient, rank_request
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
        with RankClient(gw.server.address) as client:
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
