"""The ads auction."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.auction.second_price import expected_value, gsp_prices
from ranking.fairness.floors import rank_by_score, rank_with_floors
from ranking.fairness.windows import rank_with_windows


def test_expected_value_is_bid_times_probability() -> None:
    """A bid of 2 currency units clicked once in a hundred is worth 0.02 units an impression."""
    assert expected_value(np.array([2_000_000]), np.array([0.01])).tolist() == [2_000_000 * 0.01]


def test_each_pays_what_it_takes_to_beat_the_next() -> None:
    """Price = value of the next / own probability, rounded up; the last, with nobody below, pays the reserve."""
    bids, p = np.array([1000, 900, 300]), np.array([0.3, 0.2, 0.1])  # values 300, 180, 30
    prices = gsp_prices(np.array([0, 1, 2]), bids, p, reserve_micros=50)
    assert prices.tolist() == [ceil(180 / Fraction(3, 10)), ceil(30 / Fraction(2, 10)), 50]
    assert prices.dtype == np.int64


def test_a_candidate_left_out_still_sets_the_price() -> None:
    """The last result is priced by the best candidate that was not returned."""
    assert gsp_prices(np.array([0]), np.array([1000, 800]), np.array([0.5, 0.5])).tolist() == [800]


def test_a_lifted_result_competes_with_its_own_group() -> None:
    """A floor reserved the place for the tail: the tail item pays what beats the next tail item, not what beats the head."""
    bids, p, groups = np.array([1000, 900, 100, 60]), np.full(4, 0.1), np.array([0, 0, 1, 1])
    fair = rank_with_floors(expected_value(bids, p), groups, (0.0, 0.5), 2)
    assert fair.order.tolist() == [0, 2]
    prices = gsp_prices(fair.order, bids, p, lifted=fair.binding, groups=groups)
    assert prices.tolist() == [900, 60]


def test_nobody_pays_to_beat_whom_a_ceiling_bars() -> None:
    """Half the places are the head's at most: a tail item between two head items pays what beats the next tail item, not its bid."""
    bids, p, groups = np.array([100, 90, 80, 50, 40]), np.full(5, 0.1), np.array([1, 1, 1, 0, 0])
    fair = rank_with_windows(expected_value(bids, p), groups, (0.0, 0.0), (1.0, 0.5), 4, 1 / np.log2(np.arange(2, 6)))
    assert fair.order.tolist() == [0, 3, 1, 4]
    assert gsp_prices(fair.order, bids, p, reserve_micros=5, lifted=fair.binding, groups=groups).tolist() == [90, 40, 80, 5]


def test_nobody_pays_to_beat_whom_another_floor_displaced() -> None:
    """Group 2's floor takes the second place and group 1's holds the third, by score its own: it does not pay for the 90 that had to go."""
    bids, p, groups = np.array([100, 90, 80, 50, 40, 45]), np.full(6, 0.1), np.array([0, 0, 1, 2, 1, 2])
    fair = rank_with_floors(expected_value(bids, p), groups, (0.0, 1 / 3, 0.5), 4)
    assert fair.order.tolist() == [0, 3, 2, 5]
    assert fair.binding.tolist() == [-1, 2, -1, 2]
    assert gsp_prices(fair.order, bids, p, reserve_micros=5, lifted=fair.binding, groups=groups).tolist() == [90, 45, 45, 5]


def test_without_knowing_what_was_lifted_the_bid_is_the_bound() -> None:
    """Beating the head item below would cost more than the bid, so the bid is the price."""
    assert gsp_prices(np.array([0, 2]), np.array([1000, 900, 100]), np.full(3, 0.1)).tolist() == [900, 100]


@given(st.lists(st.tuples(st.integers(5, 10**9), st.floats(0.001, 1), st.integers(0, 2)), min_size=1, max_size=12), st.integers(1, 12))
def test_a_lifted_result_s_price_keeps_its_place_in_its_group(candidates: list[tuple[int, float, int]], k: int) -> None:
    """Paying the price as its bid, a lifted result still is the best of its group among those not above it."""
    bids, p, groups = (np.array(column) for column in zip(*candidates, strict=True))
    value = expected_value(bids, p)
    fair = rank_with_floors(value, groups, (0.0, 0.4, 0.3), min(k, len(bids)))
    prices = gsp_prices(fair.order, bids, p, lifted=fair.binding, groups=groups)
    for t, (i, group) in enumerate(zip(fair.order, fair.binding, strict=True)):
        if group >= 0:
            waiting = np.setdiff1d(np.flatnonzero(groups == group), fair.order[: t + 1])
            assert prices[t] * p[i] >= value[waiting].max(initial=0.0) * (1 - 1e-9)
            assert prices[t] <= bids[i]


def test_a_result_nobody_clicks_has_a_price_within_its_bounds() -> None:
    """A probability of 0 divides nothing: the price is the bid while a rival has value, else the reserve."""
    assert gsp_prices(np.array([0, 1]), np.array([500, 400]), np.array([0.0, 0.1]), reserve_micros=10).tolist() == [500, 10]
    assert gsp_prices(np.array([0, 1]), np.array([500, 400]), np.array([0.0, 0.0]), reserve_micros=10).tolist() == [10, 10]


auctions = st.lists(st.tuples(st.integers(5, 10**12), st.floats(0, 1)), min_size=1, max_size=12)


@given(auctions, st.integers(1, 15))
def test_prices_lie_between_reserve_and_bid(candidates: list[tuple[int, float]], k: int) -> None:
    """reserve ≤ price ≤ bid for every result, whatever the bids, the probabilities and the order."""
    bids, p = np.array([b for b, _ in candidates]), np.array([q for _, q in candidates])
    order = rank_with_floors(expected_value(bids, p), np.arange(len(bids)) % 2, (0.5, 0.5), k).order
    prices = gsp_prices(order, bids, p, reserve_micros=5)
    assert (prices >= 5).all()
    assert (prices <= bids[order]).all()


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=12), st.floats(1e-6, 1))
def test_equal_probabilities_make_it_a_second_price_auction(bids: list[int], p: float) -> None:
    """With one probability for all, each pays exactly the next bid: rounding never adds a micro."""
    b = np.array(bids)
    order = rank_by_score(expected_value(b, np.full(len(b), p)))
    assert gsp_prices(order, b, np.full(len(b), p)).tolist() == [*b[order][1:].tolist(), 0]


@given(auctions)
def test_ranked_by_value_nobody_could_keep_the_place_for_less(candidates: list[tuple[int, float]]) -> None:
    """At its price a result is worth at least the next; a micro less and it is not (or the reserve binds)."""
    bids, p = np.array([b for b, _ in candidates]), np.array([q for _, q in candidates])
    value = expected_value(bids, p)
    order = rank_by_score(value)
    prices = gsp_prices(order, bids, p, reserve_micros=5)
    for t, i in enumerate(order[:-1].tolist()):
        rival = float(value[order[t + 1 :]].max())
        assert prices[t] * p[i] >= rival * (1 - 1e-12) or prices[t] == bids[i]
        assert prices[t] == 5 or (prices[t] - 1) * p[i] <= rival * (1 + 1e-12)


def test_a_group_price_is_taken_off_the_price() -> None:
    """Helped by 50 micros an impression at a probability of ½, a result needs 100 micros a click less to beat the next."""
    bids, p, extra = np.array([900, 800]), np.full(2, 0.5), np.array([50.0, 0.0])
    assert gsp_prices(np.array([0, 1]), bids, p, prices=extra).tolist() == [ceil((800 * 0.5 - 50) / 0.5), 0]


def test_a_rival_s_group_price_is_added() -> None:
    """The next one's help counts for it, and the price still is at most the bid."""
    bids, p = np.array([900, 800]), np.full(2, 0.5)
    assert gsp_prices(np.array([0]), bids, p, prices=np.array([0.0, 20.0])).tolist() == [ceil((800 * 0.5 + 20) / 0.5)]
    assert gsp_prices(np.array([0]), bids, p, prices=np.array([0.0, 60.0])).tolist() == [900]


def test_help_alone_beats_the_next_at_the_reserve() -> None:
    """Where the group price already exceeds the next one's score, the click costs the reserve."""
    assert gsp_prices(np.array([0]), np.array([100, 80]), np.full(2, 0.5), prices=np.array([90.0, 0.0]), reserve_micros=7).tolist() == [7]


@given(st.lists(st.tuples(st.integers(5, 10**9), st.floats(0.01, 1), st.integers(-1000, 10**6)), min_size=2, max_size=12))
def test_with_group_prices_nobody_could_keep_the_place_for_less(candidates: list[tuple[int, float, int]]) -> None:
    """At its price a result's score is at least the next; a micro less and it is not (or the reserve, or the bid, binds)."""
    bids, p, extra = (np.array(column) for column in zip(*candidates, strict=True))
    score = bids * p + extra
    order = rank_by_score(score)
    prices = gsp_prices(order, bids, p, prices=extra, reserve_micros=5)
    for t, i in enumerate(order[:-1].tolist()):
        rival, close = float(score[order[t + 1 :]].max()), 1e-9 * float(np.abs(score).max() + np.abs(extra).max())
        assert prices[t] * p[i] + extra[i] >= rival - close
        assert prices[t] == 5 or (prices[t] - 1) * p[i] + extra[i] <= rival + close


def test_with_several_rules_the_binding_group_is_what_counts() -> None:
    """Ids run on from rule to rule: lifted by group 3 of the second rule, a result competes with that group, not with its tier."""
    bids, p = np.array([1000, 900, 100, 60, 40]), np.full(5, 0.1)
    groups = np.array([[0, 0, 1, 1, 1], [2, 2, 3, 2, 3]])
    order = np.array([0, 2])
    assert gsp_prices(order, bids, p, lifted=np.array([-1, 3]), groups=groups).tolist() == [900, 40]
    assert gsp_prices(order, bids, p, lifted=np.array([-1, 1]), groups=groups).tolist() == [900, 60]


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("bid_micros: must be one list of whole micros", {"bid_micros": [np.nan, 20]}),
        ("bid_micros: must be one list of whole micros", {"bid_micros": [20.5, 20]}),
        ("bid_micros: every bid must reach the reserve", {"bid_micros": [-1, 20]}),
        ("prices: must be finite", {"prices": [0.0, np.nan]}),
        ("prices: need one per bid", {"prices": [0.0]}),
        ("reserve_micros: must not be negative", {"reserve_micros": -1}),
        ("order: must be distinct indices", {"order": [0, 0]}),
        ("order: must be distinct indices", {"order": [0, 2]}),
        ("lifted: need one per result", {"lifted": [-1]}),
        ("groups: needed with lifted", {"lifted": [-1, -1]}),
        ("groups: need one per bid", {"lifted": [-1, -1], "groups": [0, 0, 0]}),
    ],
)
def test_what_an_auction_cannot_work_with_is_named(message: str, changed: dict[str, list[float] | int]) -> None:
    """NaN and negative bids, group prices that are no numbers, wrong indices and wrong lengths are refused by name."""
    good = {"order": [0, 1], "bid_micros": [20, 20], "probabilities": [0.1, 0.1]}
    call = {name: np.array(value) if isinstance(value, list) else value for name, value in (good | changed).items()}
    with pytest.raises(ValueError, match=f"^{message}"):
        gsp_prices(**call)


@pytest.mark.parametrize(
    ("message", "bids", "p"),
    [
        ("bid_micros: every bid must reach the reserve of 10, got 9", [9, 20], [0.1, 0.1]),
        ("probabilities: must be within", [20, 20], [0.1, 1.1]),
        ("probabilities: must be within", [20, 20], [0.1, np.nan]),
        ("probabilities: need one per bid", [20, 20], [0.1]),
    ],
)
def test_a_wrong_argument_is_named(message: str, bids: list[int], p: list[float]) -> None:
    """A bid below the reserve and a probability that is none are refused by name."""
    with pytest.raises(ValueError, match=f"^{message}"):
        gsp_prices(np.array([0]), np.array(bids), np.array(p), reserve_micros=10)
