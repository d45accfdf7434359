"""Who may compete, in which places, and what a click costs."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, log2
from pathlib import Path

import grpc
import numpy as np
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.auction.pacing import Spend
from ranking.fairness.policy import SEARCHED_PLACES, FairnessPolicy, Pacing
from ranking.types import Candidates, Surface
from services.gateway.policy import ads as auction
from tests.services.gateway_fakes import add_policy, ads, bad_request, floors, gateway, reasons, search, seller
from tests.services.ledger_fakes import Clock, Place

SLOTS = [1, 4, 9]


def page(n: int = 20, paid: tuple[int, ...] = (2, 5, 11, 14, 17), **fields: object) -> pb.RankRequest:
    """A search request in which the candidates `paid` are ads."""
    request = search(n, **fields)
    request.candidates.bid_micros.extend(50_000 + 10_000 * i if i in paid else 0 for i in range(n))
    return request


async def test_ads_fill_exactly_their_slots(home: Path) -> None:
    """Slots go to the ads with the highest bid × probability, all other places to organic results by probability."""
    add_policy(home, "mixed", ad_slots=SLOTS, organic_value_micros=70_000)
    async with gateway(home) as gw:
        answer = await gw.rank(page())
    results = answer.results
    bids = page().candidates.bid_micros
    paid = [bids[i] > 0 for i in results.candidate_indices]
    assert [place for place, ad in enumerate(paid, start=1) if ad] == SLOTS
    assert len(results.item_ids) == 15 + 3  # two ads found no slot
    for kind in (True, False):
        shown = [s for s, ad in zip(results.scores, paid, strict=True) if ad is kind]
        assert shown == sorted(shown, reverse=True)
    for i, score, p, ad, price in zip(
        results.candidate_indices, results.scores, results.probabilities, paid, results.price_micros, strict=True
    ):
        assert score == (bids[i] if ad else 70_000.0) * p
        assert 0 <= price <= bids[i]


async def test_ads_on_a_page_pay_what_the_next_ad_would(home: Path) -> None:
    """Second prices among the ads alone: the next ad's bid × probability over one's own probability, the reserve where there is none."""
    add_policy(home, "mixed", ad_slots=SLOTS, reserve_micros=20_000)
    async with gateway(home) as gw:
        three = (await gw.rank(page(paid=(2, 5, 11)))).results
        five = (await gw.rank(page())).results
    for results, last in ((three, None), (five, 3)):
        shown = [(results.scores[p - 1], results.probabilities[p - 1], results.price_micros[p - 1]) for p in SLOTS]
        for (_, own, price), (following, *_) in pairwise(shown):
            assert price == pytest.approx(max(following / own, 20_000), abs=1.0)
        if last is None:
            assert shown[-1][2] == 20_000


async def test_bids_below_the_reserve_are_dropped_and_not_shown_as_organic(home: Path) -> None:
    """An ad that may not compete is no search result either."""
    add_policy(home, "mixed", ad_slots=SLOTS, reserve_micros=120_000)
    async with gateway(home) as gw:
        answer = await gw.rank(page())
    assert [(d.index, d.reason) for d in answer.dropped] == [(2, "BELOW_RESERVE"), (5, "BELOW_RESERVE")]
    assert not {2, 5} & set(answer.results.candidate_indices)


@pytest.mark.parametrize("mode", ["enforce", "report_only", "off"])
async def test_slots_hold_in_every_mode_and_beside_floors(home: Path, mode: str) -> None:
    """Where ads stand is the page's layout, not fairness: it holds without enforcement, and floors hold around it."""
    add_policy(home, "mixed", ad_slots=SLOTS, mode=mode, rules=floors("popularity_tier", tail=0.4))
    async with gateway(home) as gw:
        answer = await gw.rank(page(top_k=10, explain=pb.EXPLAIN_LEVEL_FULL))
    bids = page().candidates.bid_micros
    assert [p for p, i in enumerate(answer.results.candidate_indices, start=1) if bids[i] > 0] == SLOTS
    groups = [e.group for e in answer.explanations]
    if mode == "enforce":
        assert groups.count("tail") >= 4
    if mode != "off":
        fairness = answer.fairness
        assert sum(c.cost for c in fairness.costs) == pytest.approx(fairness.utility_before - fairness.utility)


async def test_a_page_without_bids_is_all_organic_and_free(home: Path) -> None:
    """No bids, no ads; scores stay in the page's unit, micros."""
    add_policy(home, "mixed", ad_slots=SLOTS, organic_value_micros=50_000)
    async with gateway(home) as gw:
        answer = await gw.rank(search(8))
        zeros = await gw.rank(page(8, paid=()))
    assert not answer.results.price_micros
    assert list(zeros.results.price_micros) == [0] * 8
    assert answer.results.item_ids == zeros.results.item_ids
    assert list(answer.results.scores) == [50_000.0 * p for p in answer.results.probabilities]


async def test_a_long_page_ends_by_score(home: Path) -> None:
    """Behind the places that floors cover and the last slot stand the organic results left, by score, and no ad."""
    add_policy(home, "mixed", ad_slots=SLOTS, page_length=5, rules=floors("popularity_tier", tail=0.4))
    async with gateway(home) as gw:
        answer = await gw.rank(page(300, paid=tuple(range(0, 300, 7))))
    bids = page(300, paid=tuple(range(0, 300, 7))).candidates.bid_micros
    assert [p for p, i in enumerate(answer.results.candidate_indices, start=1) if bids[i] > 0] == SLOTS
    assert len(set(answer.results.candidate_indices)) == len(answer.results.item_ids) == 300 - len(range(0, 300, 7)) + len(SLOTS)
    behind = list(answer.results.scores)[SLOTS[-1] :]
    assert behind == sorted(behind, reverse=True)


@pytest.mark.parametrize("validate_only", [False, True])
async def test_bids_on_search_need_a_policy_with_slots(home: Path, validate_only: bool) -> None:
    """INVALID_ARGUMENT on the bids, whether or not results were asked for; on such a policy bids are checked like any."""
    add_policy(home, "mixed", active=False, ad_slots=SLOTS)
    async with gateway(home) as gw:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.rank(page(validate_only=validate_only))
        assert bad_request(caught.value) == {
            "candidates.bid_micros": "only allowed for SURFACE_ADS, or with a policy that has ad_slots; 'floors' has none"
        }
        bad = page(3, policy="mixed", validate_only=validate_only)
        bad.candidates.bid_micros[1] = -5
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.rank(bad)
        assert list(bad_request(caught.value)) == ["candidates.bid_micros[1]"]
        assert (await gw.rank(page(policy="mixed", validate_only=validate_only))).release == "r1"


@pytest.mark.parametrize(
    ("slots", "sponsored", "k", "expected"),
    [
        ((1, 4), "aaaoooo", 7, 6),  # one ad too many
        ((1, 4), "aoooo", 5, 5),  # one too few: its slot goes to nobody special
        ((1, 2, 3), "aaa", 3, 3),  # ads only, and slots enough
        ((2,), "aaa", 3, 0),  # nobody for the first place
        ((9,), "aoo", 3, 2),  # the organic results end before the slot
        ((1, 4), "aaoooo", 2, 2),  # cut before
    ],
)
def test_a_page_ends_where_its_organic_results_do(slots: tuple[int, ...], sponsored: str, k: int, expected: int) -> None:
    """Ads stand in slots and nowhere else."""
    assert auction.places(slots, np.array([c == "a" for c in sponsored]), k) == expected


async def test_truthful_prices_lie_between_reserve_and_bid_and_below_second_prices(home: Path) -> None:
    """Both rules show the same list; a truthful click costs at most what a second price would, because losing also costs the place."""
    rules = {"rules": floors("popularity_tier", tail=0.3), "reserve_micros": 5_000}
    add_policy(home, "gsp", **rules)
    add_policy(home, "true", pricing="truthful", **rules)
    async with gateway(home) as gw:
        second = (await gw.rank(ads(20, policy="gsp"))).results
        truth = (await gw.rank(ads(20, policy="true"))).results
    assert second.item_ids == truth.item_ids
    bids = ads(20).candidates.bid_micros
    for i, own in zip(truth.candidate_indices, truth.price_micros, strict=True):
        assert 5_000 <= own <= bids[i]
    assert sum(truth.price_micros) < sum(second.price_micros)


async def test_truthful_without_enforcement_prices_the_list_by_score(home: Path) -> None:
    """`report_only` and `off` charge for the list they return."""
    for mode in ("report_only", "off"):
        add_policy(home, mode, pricing="truthful", mode=mode, rules=floors("popularity_tier", tail=0.3))
    async with gateway(home) as gw:
        answers = [(await gw.rank(ads(20, policy=mode))).results for mode in ("report_only", "off")]
    assert answers[0] == answers[1]


async def budget_of_one_list(home: Path) -> int:
    """A fifth more than the most that one list of 20 can cost seller `s1`: its ads' bid × probability in the best places."""
    async with gateway(home) as gw:
        results = (await gw.rank(ads(20, policy="none"))).results
    worth = [score for i, score in zip(results.candidate_indices, results.scores, strict=True) if seller(f"i{i}") == "s1"]
    return int(1.2 * sum(w / log2(place + 1) for place, w in enumerate(worth, start=1)))


async def test_a_spent_budget_ends_an_advertisers_day(home: Path) -> None:
    """What lists are expected to cost adds up and never passes the day's budget; then the advertiser is dropped, the others stay."""
    budget = await budget_of_one_list(home)
    add_policy(home, "paced", pacing={"attribute": "seller", "daily_budget_micros": {"s1": budget, "s2": 10**12}})
    place = Place(Clock())
    async with gateway(home, place()) as gw:
        answers = [await gw.rank(ads(20)) for _ in range(6)]
    assert not answers[0].dropped
    own = {i for i in range(20) if seller(f"i{i}") == "s1"}
    assert {d.index for d in answers[-1].dropped} == own
    assert {d.reason for d in answers[-1].dropped} <= {"BUDGET_SPENT", "BUDGET_PACED"}
    assert sorted(answers[-1].results.candidate_indices) == sorted(set(range(20)) - own)
    spent = {key.group: state.spent for (kind, key), (state, *_) in place.accounts.items() if kind == "spend"}
    expected = 0.0
    for answer in answers:
        shown = zip(*(getattr(answer.results, c) for c in ("candidate_indices", "probabilities", "price_micros")), strict=True)
        expected += sum(p * price / log2(r + 1) for r, (i, p, price) in enumerate(shown, start=1) if i in own)
    assert set(spent) == {"s1", "s2"}
    assert spent["s1"] == pytest.approx(expected)
    assert spent["s1"] <= budget


def test_the_last_of_a_budget_limits_all_bids_alike() -> None:
    """A bid counts for no more than what is left over the clicks the list can bring, however high it is: asking for more is no mistake."""
    policy = FairnessPolicy("p", "1", pacing=Pacing("seller", {"acme": 1_000}))
    paced = auction.Advertisers("seller", np.array([0, 0, -1]), ("acme",), (1_000,))
    clicks = auction.most_clicks(paced, np.array([0.5, 0.2, 0.9]), 3)
    assert clicks.tolist() == [pytest.approx(0.5 + 0.2 / log2(3))]
    left = 1_000 - 400
    limit = int(left / (0.5 + 0.2 / log2(3)))
    for bid in (limit, 10 * limit, 10**12):
        candidates = Candidates(("a", "b", "c"), bid_micros=np.array([bid, 7, 10**12]))
        admitted = auction.admit(policy, Surface.ADS, candidates, paced, [Spend(spent=400.0)], clicks)
        assert admitted.bids is not None
        assert admitted.bids.tolist() == [limit, 7, 10**12]


async def test_an_advertiser_ahead_of_its_budget_bids_less(home: Path) -> None:
    """Scores and prices of its ads fall with its multiplier while it still competes; nobody else's bids change."""
    add_policy(home, "paced", pacing={"attribute": "seller", "daily_budget_micros": {"s1": 4_000_000}})
    bids = ads(20).candidates.bid_micros
    async with gateway(home) as gw:
        answers = [await gw.rank(ads(20)) for _ in range(8)]
    factors = []
    for answer in answers:
        results = answer.results
        mine = []
        for i, score, p, price in zip(results.candidate_indices, results.scores, results.probabilities, results.price_micros, strict=True):
            if seller(f"i{i}") == "s1":
                mine.append(score / (bids[i] * p))
                assert price <= bids[i] * mine[-1] + 1
            else:
                assert score == bids[i] * p
        factors.append(np.mean(mine) if mine else 0.0)
    assert factors[0] == 1.0
    assert factors[-1] < 1.0
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(factors))


async def test_a_budget_is_kept_while_the_store_is_down(home: Path) -> None:
    """Pacing goes on with what is known here, and the answer says so."""
    add_policy(home, "paced", pacing={"attribute": "seller", "daily_budget_micros": {"s1": await budget_of_one_list(home)}})
    place = Place(Clock())
    place.down = "before"
    async with gateway(home, place(), ledger_wait_s=0.1) as gw:
        answers = [await gw.rank(ads(20)) for _ in range(2)]
    assert [bool(a.dropped) for a in answers] == [False, True]
    assert all(reasons(a) == {"exposure": "UNAVAILABLE"} for a in answers)


async def test_without_models_an_ad_still_costs_its_bid_on_a_page(home: Path) -> None:
    """No probability, no second price: ads in the slots pay their bids, organic results nothing."""
    add_policy(home, "mixed", ad_slots=SLOTS)
    async with gateway(home) as gw:
        gw.models.gone |= {"bert", "trees"}
        answer = await gw.rank(page())
    bids = page().candidates.bid_micros
    assert list(answer.results.price_micros) == [bids[i] for i in answer.results.candidate_indices]
    assert [p for p, i in enumerate(answer.results.candidate_indices, start=1) if bids[i] > 0] == SLOTS


async def test_a_ceiling_s_beneficiary_does_not_pay_to_beat_whom_it_bars(home: Path) -> None:
    """Where better ads of the head must stand below, an ad pays what beats the best ad of the tiers that may compete for its place."""
    add_policy(home, "cap", rules=[{"attribute": "popularity_tier", "ceilings": {"head": 0.2}}], reserve_micros=1000)
    async with gateway(home) as gw:
        answer = await gw.rank(ads(30, explain=pb.EXPLAIN_LEVEL_SCORES))
    bids = ads(30).candidates.bid_micros
    freed = 0
    for place, e in enumerate(answer.explanations):
        best: dict[str, float] = {}  # of each tier below
        for below in answer.explanations[place + 1 :]:
            best[below.group] = max(best.get(below.group, 0.0), below.score)
        rival = max((score for score in best.values() if score <= e.score), default=0.0)
        bid, price = bids[int(e.item_id[1:])], answer.results.price_micros[place]
        assert price == min(max(ceil(rival / e.probability * (1 - 1e-12)), 1000), bid)
        freed += any(score > e.score for score in best.values()) and price < bid
    assert freed


async def test_truthful_prices_are_for_so_many_results(home: Path) -> None:
    """Each payment takes an order of its own: a list of truthful prices ends after 50 results, however many are asked for."""
    add_policy(home, "honest", pricing="truthful")
    async with gateway(home) as gw:
        results = (await gw.rank(ads(80))).results
    assert len(results.item_ids) == len(results.price_micros) == SEARCHED_PLACES == 50
