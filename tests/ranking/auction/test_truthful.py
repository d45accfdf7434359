"""Payments that make bidding one's value the best strategy."""

from __future__ import annotations

from math import ceil, log2

import numpy as np
import pytest

from ranking.auction.second_price import gsp_prices
from ranking.auction.truthful import truthful_prices
from ranking.baselines.deterministic import det_const_sort, det_greedy
from ranking.fairness.floors import rank_with_floors
from ranking.types import FloatArray, IntArray
from tests.ranking.auction.auctions import Auction, Pay, Rank, earns, envelope, exact, integral, misreports, random_auction

AGENTS, MISREPORTS = 1_000, 25


def truthful(auction: Auction, order: IntArray) -> IntArray:
    return truthful_prices(
        order,
        auction.bids,
        auction.p,
        groups=auction.groups,
        shares=auction.shares,
        prices=auction.extra,
        reserve_micros=auction.reserve,
    )


def gsp(auction: Auction, order: IntArray) -> IntArray:
    fair = rank_with_floors(auction.scores, auction.groups, auction.shares, auction.k)
    return gsp_prices(
        order,
        auction.bids,
        auction.p,
        prices=auction.extra,
        reserve_micros=auction.reserve,
        lifted=fair.binding,
        groups=auction.groups,
    )


def profitable(rank: Rank, pay: Pay, agents: int = AGENTS, n: int = 8, k: int = 4) -> int:
    """How many of `agents` × 25 misreports earn more than the truth, by more than a micro per click of rounding."""
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(agents):
        auction = random_auction(rng, n, k)
        i = int(rng.integers(len(auction.bids)))
        value = int(auction.bids[i])
        honest, clicks = earns(auction, i, value, value, rank, pay)
        for bid in misreports(rng, auction, i, MISREPORTS).tolist():
            profit, _ = earns(auction, i, bid, value, rank, pay)
            found += profit > honest + clicks + 1e-6
    return found


def test_no_misreport_is_profitable() -> None:
    """1,000 bidders × 25 misreports: none earns more than the truth, with floors, scarce groups, group prices, reserves and ties."""
    assert profitable(exact, truthful) == 0


@pytest.mark.exhaustive
def test_no_misreport_is_profitable_on_longer_lists() -> None:
    """10,000 bidders × 25 misreports on lists of up to 12 of 30 candidates: none earns more than the truth."""
    assert profitable(exact, truthful, agents=10_000, n=30, k=12) == 0


def test_second_prices_can_be_gamed() -> None:
    """The same search finds profitable misreports under GSP: the test above can fail."""
    assert profitable(exact, gsp, agents=100) > 0


@pytest.mark.parametrize(
    ("heuristic", "bids", "groups", "shares", "k", "i", "lie"),
    [
        (det_greedy, [1900, 500, 1000, 1700], [1, 3, 0, 2], [2 / 9, 1 / 9, 3 / 9, 3 / 9], 3, 2, 1701),
        (det_const_sort, [300, 600, 1800, 1000], [1, 0, 2, 2], [2 / 6, 3 / 6, 1 / 6], 4, 0, 601),
    ],
)
def test_the_same_payments_on_a_heuristic_order_can_be_gamed(
    heuristic: Rank, bids: list[int], groups: list[int], shares: list[float], k: int, i: int, lie: int
) -> None:
    """Truthfulness needs the exact optimum: on DetGreedy's and DetConstSort's orders the same payments reward a lie."""
    n, value = len(bids), bids[i]
    auction = Auction(np.array(bids), np.full(n, 0.1), np.zeros(n), np.array(groups), np.array(shares), k, 100)

    def paid(auction: Auction, order: IntArray) -> FloatArray:
        return envelope(auction, order, heuristic)

    def gained(rank: Rank, pay: Pay) -> float:
        return earns(auction, i, lie, value, rank, pay)[0] - earns(auction, i, value, value, rank, pay)[0]

    assert gained(heuristic, paid) > 10.0
    assert gained(exact, truthful) <= 0.1


def test_prices_are_the_area_above_the_allocation() -> None:
    """Each price is b − ∫ x(z) dz / x(b) over the bids z from the reserve to b, rounded up: Myerson's formula, found by stepping."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        auction = random_auction(rng, n=30, k=8)
        order = exact(auction.scores, auction.groups, auction.shares, auction.k)
        expected = integral(auction, order)
        prices = truthful(auction, order)
        assert (prices >= expected - 1e-3).all()
        assert (prices <= expected + 1.0).all()


def test_prices_lie_between_reserve_and_bid_and_more_is_never_less() -> None:
    """reserve ≤ price ≤ bid (individual rationality, no positive transfers), and a higher bid never gets fewer clicks."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        auction = random_auction(rng)
        order = exact(auction.scores, auction.groups, auction.shares, auction.k)
        prices = truthful(auction, order)
        assert prices.dtype == np.int64
        assert (prices >= auction.reserve).all()
        assert (prices <= auction.bids[order]).all()
        i = int(order[-1])
        ladder = np.sort(misreports(rng, auction, i, MISREPORTS)).tolist()
        clicks = [earns(auction, i, bid, 0.0, exact, lambda a, o: a.bids[o])[1] for bid in ladder]
        assert clicks == sorted(clicks)


def test_one_place_is_a_second_price_auction() -> None:
    """With one place and no floors the winner pays what the runner-up's expected value takes: GSP and the truthful price agree."""
    bids, p = np.array([1000, 900, 300]), np.array([0.3, 0.2, 0.1])
    order = np.array([0])
    assert truthful_prices(order, bids, p, reserve_micros=50).tolist() == [ceil(180 / 0.3)]
    assert gsp_prices(order, bids, p, reserve_micros=50).tolist() == [ceil(180 / 0.3)]


def test_two_places_charge_each_step_its_own_rival() -> None:
    """The first of two places costs the second bid for the clicks it has more, the third bid for those the second has anyway."""
    d = 1 / log2(1 + 2)  # of the second place; the first has 1
    prices = truthful_prices(np.array([0, 1]), np.array([1000, 800, 300]), np.full(3, 0.1))
    assert prices.tolist() == [ceil((1 - d) * 800 + d * 300), 300]


def test_equal_places_have_one_price() -> None:
    """Where all places are worth the same, everyone pays the best bid that got none (Vickrey)."""
    prices = truthful_prices(np.array([0, 1]), np.array([1000, 800, 300]), np.full(3, 0.1), weights=np.ones(2))
    assert prices.tolist() == [300, 300]


def test_a_group_price_is_taken_off() -> None:
    """A group price that is worth 100 micros a click lowers the price of the place by 100."""
    bids, p = np.array([900, 800]), np.full(2, 0.5)
    assert truthful_prices(np.array([0]), bids, p, prices=np.array([50.0, 0.0])).tolist() == [800 - 100]


def test_the_last_of_a_scarce_group_pays_the_reserve() -> None:
    """A floor that only one candidate can fill gives it the place at any bid that takes part."""
    bids, p, groups = np.array([1000, 900, 100]), np.full(3, 0.1), np.array([0, 0, 1])
    shares = (0.0, 0.5)
    order = rank_with_floors(bids * p, groups, shares, 2).order
    assert order.tolist() == [0, 2]
    assert truthful_prices(order, bids, p, groups=groups, shares=shares, reserve_micros=40).tolist() == [900, 40]


def test_behind_the_page_floors_do_not_count() -> None:
    """With a page of 2 the third place is by score, so its price is the bid it displaces."""
    bids, p, groups = np.array([1000, 900, 100, 800]), np.full(4, 0.1), np.array([0, 0, 1, 0])
    shares = (0.0, 0.5)
    order = rank_with_floors(bids * p, groups, shares, 3, 2).order
    assert order.tolist() == [0, 2, 1]
    assert truthful_prices(order, bids, p, groups=groups, shares=shares, page=2)[2] == 800


def test_an_ad_nobody_clicks_has_the_reserve_for_a_price() -> None:
    """With a probability of 0 any price earns nothing; it is the reserve."""
    assert truthful_prices(np.array([0, 1]), np.array([500, 400]), np.array([0.2, 0.0]), reserve_micros=10).tolist() == [10, 10]


def test_no_results_have_no_prices() -> None:
    """An empty list is priced."""
    assert truthful_prices(np.array([], np.int64), np.array([], np.int64), np.array([])).tolist() == []


def test_candidates_far_below_change_nothing() -> None:
    """The prices are those of rankings over all candidates, though only a few of them are looked at: 400 of them, many tied."""
    rng = np.random.default_rng(11)
    for _ in range(20):
        n, g, k = 400, 6, 12
        bids, groups = rng.integers(1, 30, n) * 1000, rng.choice(g, n, p=[0.5, 0.3, 0.1, 0.08, 0.015, 0.005])
        auction = Auction(bids, rng.choice([0.02, 0.05], n), np.zeros(n), groups, rng.dirichlet(np.ones(g)), k, 500)
        order = exact(auction.scores, groups, auction.shares, k)
        np.testing.assert_allclose(truthful(auction, order), np.ceil(envelope(auction, order, exact) - 1e-6), atol=0)


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("bid_micros: every bid must reach the reserve of 10, got 9", {"bid_micros": [9, 20, 30]}),
        ("bid_micros: must be one list of whole micros", {"bid_micros": [20.0, np.nan, 30.0]}),
        ("bid_micros: must be one list of whole micros", {"bid_micros": [20.5, 20.0, 30.0]}),
        ("bid_micros: every bid must reach the reserve", {"bid_micros": [-20, 20, 30]}),
        ("probabilities: must be within", {"probabilities": [0.1, np.nan, 0.1]}),
        ("probabilities: need one per bid", {"probabilities": [0.1]}),
        ("prices: must be finite", {"prices": [0.0, np.nan, 0.0]}),
        ("prices: need one per bid", {"prices": [0.0]}),
        ("groups: need one per bid", {"groups": [0]}),
        ("groups: codes must be within", {"groups": [0, 3, 0]}),
        ("shares: must be within", {"shares": [1.5]}),
        ("page: must not be negative", {"page": -1}),
        ("reserve_micros: must not be negative", {"reserve_micros": -1}),
        ("weights: need one per result", {"weights": [1.0]}),
        ("weights: need one per result", {"weights": [0.5, 1.0]}),
        ("order: must be distinct indices", {"order": [1, 1]}),
        ("order: must be distinct indices", {"order": [1, 3]}),
        ("order: not the exact ranking", {"order": [1, 0]}),
    ],
)
def test_a_wrong_argument_is_named(message: str, changed: dict[str, list[float]]) -> None:
    """What an auction cannot work with is refused by name, and so is an order for which the prices would not be truthful."""
    good = {"order": [2, 1], "bid_micros": [20, 25, 30], "probabilities": [0.1, 0.1, 0.1], "reserve_micros": 10}
    call = {name: np.array(value) if isinstance(value, list) else value for name, value in (good | changed).items()}
    with pytest.raises(ValueError, match=f"^{message}"):
        truthful_prices(**call)
