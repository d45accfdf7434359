"""What a policy's rules do to a list: groups of any attribute, floors and ceilings, pages, surfaces, modes."""

from __future__ import annotations

from math import ceil, log2
from pathlib import Path
from typing import Any

import grpc
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.fairness.policy import SEARCHED_PLACES
from ranking.features import stable_key
from tests.deploy.releases import build_release
from tests.services import gateway_fakes
from tests.services.gateway_fakes import activate, add_policy, ads, bad_request, eventually, floors, gateway, item, search, seller


def lines(answer: pb.RankResponse, attribute: str) -> dict[str, pb.GroupExposure]:
    return {g.group: g for g in answer.exposure if g.attribute == attribute}


async def test_floors_hold_for_groups_of_any_attribute(home: Path) -> None:
    """A seller with a fixed floor has it at every prefix, and everybody else stands under `(other)`, items without a seller too."""
    add_policy(home, "sellers", rules=floors("seller", s3=0.4))
    async with gateway(home) as gw:
        answer = await gw.rank(search(40, explain=pb.EXPLAIN_LEVEL_SCORES))
    got = [seller(i) for i in answer.results.item_ids]
    has = sum(seller(f"i{i}") == "s3" for i in range(40))
    for j in range(1, 41):
        assert got[:j].count("s3") >= min(int(0.4 * j + 1e-9), has)
    groups = lines(answer, "seller")
    assert list(groups) == ["s3", "(other)"]
    assert (groups["s3"].candidates, groups["(other)"].candidates) == (has, 40 - has)
    assert {e.group for e in answer.explanations} == {"s3", "(other)"}
    lifted = [e for e in answer.explanations if e.binding_floor]
    assert lifted
    assert {(e.binding_attribute, e.binding_floor) for e in lifted} == {("seller", "s3")}
    assert all(e.rank <= e.binding_prefix for e in lifted)


async def test_every_group_on_the_list_can_have_its_share_of_candidates(home: Path) -> None:
    """`*` makes a group of each seller there is; its floor is its share of the list's candidates."""
    add_policy(home, "all", rules=[{"attribute": "seller", "floors": {"*": {"of_candidates": 1.0}}}])
    async with gateway(home) as gw:
        answer = await gw.rank(search(40, top_k=20))
    groups = lines(answer, "seller")
    assert set(groups) == {"s0", "s1", "s2", "s3", "s4", "(other)"}
    for name in ("s0", "s1", "s2", "s3", "s4"):
        share = sum(seller(f"i{i}") == name for i in range(40)) / 40
        assert groups[name].target_share == pytest.approx(share)
        assert groups[name].count >= int(20 * share)
    assert groups["(other)"].target_share == 0.0


async def test_several_attributes_are_all_reported_and_kept(home: Path) -> None:
    """With a tier and a brand rule both floors hold at the end of the list, and each rule has its lines."""
    add_policy(home, "two", rules=[*floors("popularity_tier", new=0.3), *floors("brand", own=0.5)])
    async with gateway(home) as gw:
        answer = await gw.rank(search(30, top_k=10))
    assert [(g.attribute, g.group) for g in answer.exposure] == [
        *[("popularity_tier", t) for t in ("head", "tail", "new")],
        ("brand", "own"),
        ("brand", "(other)"),
    ]
    chosen = [item(i) for i in answer.results.candidate_indices]
    assert sum(i["popularity_tier"] == "new" for i in chosen) >= 3
    assert sum(i["brand"] == "own" for i in chosen) >= 5
    assert answer.fairness.optimality_gap >= 0.0


async def test_ceilings_hold_until_nobody_else_is_left(home: Path) -> None:
    """A group has at most ceil(j · share) of the first j places; what only it can fill is its excess."""
    add_policy(home, "cap", rules=[{"attribute": "popularity_tier", "ceilings": {"head": 0.2}}])
    async with gateway(home) as gw:
        page = await gw.rank(search(30, top_k=10, explain=pb.EXPLAIN_LEVEL_SCORES))
        heads = await gw.rank(pb.RankRequest(surface=pb.SURFACE_SEARCH, candidates=pb.Candidates(item_ids=["i0", "i3", "i6"])))
    groups = [e.group for e in page.explanations]
    assert all(groups[:j].count("head") <= ceil(0.2 * j) for j in range(1, 11))
    assert lines(page, "popularity_tier")["head"].ceiling == 0.2
    assert lines(page, "popularity_tier")["head"].excess == 0
    assert lines(heads, "popularity_tier")["head"].excess == 3 - ceil(0.2 * 3)


async def test_behind_the_page_the_score_decides(home: Path) -> None:
    """Floors, report and utility cover the first `page_length` places; the rest stands by score."""
    add_policy(home, "page", rules=floors("popularity_tier", new=0.5), page_length=4)
    async with gateway(home) as gw:
        answer = await gw.rank(search(30, explain=pb.EXPLAIN_LEVEL_SCORES))
    assert [e.group for e in answer.explanations][:4].count("new") >= 2
    behind = list(answer.results.scores)[4:]
    assert behind == sorted(behind, reverse=True)
    assert sum(g.count for g in answer.exposure) == 4
    shown = list(answer.results.scores)[:4]
    assert answer.fairness.utility == pytest.approx(sum(s / log2(r + 1) for r, s in enumerate(shown, start=1)))


async def test_behind_the_free_places_there_is_room_for_what_the_user_never_bought(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first places stand by score; behind them at most the ceiling's share was bought by the user before, as the answer tells."""
    by_score = await _answer(home, "plain", rules=[])
    best = [f"i{item_id[1:]}" for item_id in by_score.results.item_ids[:20]]
    monkeypatch.setitem(gateway_fakes.USER, "history_item_keys", [stable_key(i) for i in best])
    monkeypatch.setitem(gateway_fakes.USER, "history_counts", [1.0] * len(best))
    monkeypatch.setitem(gateway_fakes.USER, "history_days", [3.0] * len(best))
    rules = [{"attribute": "relation", "ceilings": {"own": 0.25}}]
    plain = await _answer(home, "still-plain", rules=[])
    answer = await _answer(home, "discovery", rules=rules, free_places=5, page_length=20)
    order, groups = list(answer.results.item_ids), [e.group for e in answer.explanations]
    assert order[:5] == list(plain.results.item_ids[:5])
    assert [g == "own" for g in groups] == [i in best for i in order]
    assert all(groups[5 : 5 + j].count("own") <= ceil(0.25 * j) for j in range(1, 16))
    told = lines(answer, "relation")
    assert list(told) == ["own", "maker", "type", "other"]
    assert (told["own"].candidates, told["own"].count, told["own"].ceiling) == (20, groups[:20].count("own"), 0.25)
    assert sum(c.cost for c in answer.fairness.costs) == pytest.approx(answer.fairness.utility_before - answer.fairness.utility)


async def _answer(home: Path, name: str, **policy: Any) -> pb.RankResponse:
    add_policy(home, name, **policy)
    async with gateway(home) as gw:
        return await gw.rank(search(60, explain=pb.EXPLAIN_LEVEL_FULL))


async def test_overlapping_groups_are_searched_for_the_first_places_only(home: Path) -> None:
    """However long the list, several rules cover 50 places, all candidates are returned, and the rest stands by score."""
    add_policy(home, "two", rules=[*floors("popularity_tier", tail=0.3), *floors("brand", own=0.5)])
    async with gateway(home) as gw:
        answer = await gw.rank(search(120))
    assert sum(g.count for g in answer.exposure) == 2 * SEARCHED_PLACES
    assert len(set(answer.results.item_ids)) == 120
    behind = list(answer.results.scores)[SEARCHED_PLACES:]
    assert behind == sorted(behind, reverse=True)


async def test_a_policy_for_another_surface_is_refused(home: Path) -> None:
    """INVALID_ARGUMENT on `policy`, for `validate_only` too; on its own surface it serves."""
    add_policy(home, "ads-only", active=False, surfaces=["ads"])
    async with gateway(home) as gw:
        for request in (search(3, policy="ads-only"), search(3, policy="ads-only", validate_only=True)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gw.rank(request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert bad_request(caught.value) == {"policy": "'ads-only' is for SURFACE_ADS only, the request is for SURFACE_SEARCH"}
        assert (await gw.rank(ads(3, policy="ads-only"))).policy == "ads-only"


async def test_a_new_release_brings_its_own_policy_of_the_same_name(home: Path) -> None:
    """Policies switch with the release, whole: nothing of the old one of that name is left."""
    build_release(home / "releases", "r2", 2)
    add_policy(home, "swap", "r1", rules=floors("popularity_tier", new=0.5))
    add_policy(home, "swap", "r2", rules=floors("seller", s1=0.3), version="2")
    async with gateway(home) as gw:
        first = await gw.rank(search(30, top_k=10))
        activate(home, "r2")

        async def switched() -> bool:
            return (await gw.rank(search(1))).release == "r2"

        await eventually(switched)
        second = await gw.rank(search(30, top_k=10))
        pinned = await gw.rank(search(30, top_k=10, release="r1"))
    assert (first.policy_version, second.policy_version, pinned.policy_version) == ("1", "2", "1")
    assert ({g.attribute for g in first.exposure}, {g.attribute for g in second.exposure}) == ({"popularity_tier"}, {"seller"})
    assert pinned.results.item_ids == first.results.item_ids


BAD_LISTS: dict[str, tuple[pb.RankRequest, dict[str, Any]]] = {
    "all scores equal": (pb.RankRequest(surface=pb.SURFACE_SEARCH, candidates=pb.Candidates(item_ids=list("abcdef"))), {}),
    "one group only": (pb.RankRequest(surface=pb.SURFACE_SEARCH, candidates=pb.Candidates(item_ids=[f"i{3 * i}" for i in range(9)])), {}),
    "a group nobody is in": (search(12), {"rules": floors("seller", nobody=0.5, s1=0.2)}),
    "no item has the attribute": (search(12), {"rules": floors("department", grocery=0.5)}),
    "k beyond n": (search(5, top_k=500), {}),
    "one candidate": (search(1), {}),
    "page longer than the list": (search(5), {"page_length": 50}),
    "unknown items with a seller rule": (
        pb.RankRequest(surface=pb.SURFACE_SEARCH, candidates=pb.Candidates(item_ids=["x", "i1", "y"])),
        {"rules": [{"attribute": "seller", "floors": {"*": {"of_candidates": 1.0}}}]},
    ),
}


@pytest.mark.parametrize("scope", ["list", "amortised", "both"])
@pytest.mark.parametrize("name", BAD_LISTS)
async def test_awkward_lists_are_ranked_whole(home: Path, name: str, scope: str) -> None:
    """Each candidate once, a line per group, exposure of the groups summing to 1, floors that cannot be kept reported as shortfall."""
    request, fields = BAD_LISTS[name]
    add_policy(home, "p", **({"rules": floors("popularity_tier", tail=0.3, new=0.2), "scope": scope} | fields))
    async with gateway(home) as gw:
        for _ in range(3):
            answer = await gw.rank(request)
    n = len(request.candidates.item_ids)
    assert sorted(answer.results.candidate_indices) == list(range(n))
    assert sum(g.exposure for g in answer.exposure) == pytest.approx(1.0)
    for g in answer.exposure:
        if not g.candidates and scope != "amortised":
            assert g.shortfall == int(g.target_share * n + 1e-9)


@pytest.mark.parametrize("mode", ["enforce", "report_only", "off"])
async def test_fairness_says_what_the_policy_did_to_utility(home: Path, mode: str) -> None:
    """Utility by score alone and as the policy orders it, the costs of a full explanation adding up to the difference; nothing when off."""
    add_policy(home, "p", rules=floors("popularity_tier", tail=0.6), mode=mode, active=False)
    async with gateway(home) as gw:
        answer = await gw.rank(search(30, top_k=12, policy="p", explain=pb.EXPLAIN_LEVEL_FULL))
        by_score = await gw.rank(search(30, top_k=12, policy="none"))
    assert answer.HasField("fairness") == (mode != "off")
    assert not by_score.HasField("fairness")
    if mode == "off":
        return
    utility = {id(a): sum(s / log2(r + 1) for r, s in enumerate(a.results.scores, start=1)) for a in (answer, by_score)}
    assert answer.fairness.utility_before == pytest.approx(utility[id(by_score)])
    given_up = answer.fairness.utility_before - answer.fairness.utility
    assert given_up > 0
    assert sum(c.cost for c in answer.fairness.costs) == pytest.approx(given_up)
    placed = [c for c in answer.fairness.costs if c.kind == "floor"]
    assert {(c.attribute, c.group) for c in placed} == {("popularity_tier", "tail")}
    if mode == "enforce":
        assert all(c.item_id in list(answer.results.item_ids)[: c.prefix] for c in placed)
        assert answer.fairness.utility == pytest.approx(utility[id(answer)])
        assert sum(e.cost for e in answer.explanations) == pytest.approx(given_up)
    else:
        assert answer.results == by_score.results
        assert all(item(int(c.item_id[1:]))["popularity_tier"] == "tail" for c in placed)  # also those that are not among the results
        assert not any(e.cost for e in answer.explanations)
