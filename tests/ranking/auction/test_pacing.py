"""Budgets and their pacing over the day."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.auction.pacing import (
    CATCH_UP,
    CREDIT,
    DAY_S,
    SPREAD,
    Spend,
    expected_spend,
    multiplier,
    paced_bids,
    settle_spend,
    undone,
)
from ranking.auction.second_price import gsp_prices
from ranking.auction.truthful import truthful_prices
from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_by_score
from ranking.types import FloatArray

BUDGET = 1e9
RESERVE = 20_000
PLACES = 3


@dataclass(frozen=True)
class Days:
    """What paced advertisers spent: (a, hours) micros, and the most that one list could cost each, (a,)."""

    hours: FloatArray
    most: FloatArray


def simulate(at: FloatArray, bids: FloatArray, budgets: FloatArray) -> Days:
    """Auctions of three places at the times `at`, in seconds; every advertiser has one ad in each, its price is the auction's."""
    rng = np.random.default_rng(1)
    states = [Spend() for _ in bids]
    hours, most = np.zeros((len(bids), int(at[-1] // 3600) + 1)), np.zeros(len(bids))
    last = 0.0
    for now in at:
        p = rng.beta(2, 60, len(bids))
        states = [settle_spend(s, 0.0, now - last, budget) for s, budget in zip(states, budgets, strict=True)]
        scale = np.array([multiplier(s, budget, most) for s, budget, most in zip(states, budgets, bids * p, strict=True)])
        paced = paced_bids(bids, scale)
        kept = np.flatnonzero(paced >= RESERVE)
        order = rank_by_score(paced[kept] * p[kept], PLACES)
        prices = gsp_prices(order, paced[kept], p[kept], reserve_micros=RESERVE)
        for i, spend in zip(kept[order].tolist(), expected_spend(prices, p[kept][order], discounts(len(order))), strict=True):
            states[i] = settle_spend(states[i], spend, 0.0, budgets[i])
            hours[i, int(now // 3600)] += spend
        most, last = np.maximum(most, bids * p), now
    return Days(hours, most)


def arrivals(rng: np.random.Generator, per_hour: list[int], count: int) -> FloatArray:
    """Two days of `count` requests each, spread over the hours in proportion to `per_hour`; the very last second has one too."""
    share = np.concatenate([[0.0], np.cumsum(per_hour) / sum(per_hour)])
    days = [DAY_S * day + 3600 * np.interp(np.sort(rng.random(count)), share, np.arange(25)) for day in (0, 1)]
    return np.append(np.concatenate(days), 2 * DAY_S - 1e-3)


UNIFORM = [1] * 24
BURSTY = [0] * 6 + [1] * 12 + [10] * 4 + [1] * 2  # nothing at night, four busy hours


@pytest.mark.parametrize("per_hour", [UNIFORM, BURSTY], ids=["uniform", "bursty"])
def test_budgets_are_kept_used_and_spread(per_hour: list[int]) -> None:
    """Budgets from 5 % to 300 % of what an advertiser would spend unpaced: never passed, used within 4 % at up to 30 % of it, and no hour
    takes more than the stated part; with even traffic none takes twice its share or goes without. Large ones do not starve small ones."""
    rng = np.random.default_rng(0)
    at = arrivals(rng, per_hour, 1_200)
    bids = rng.integers(200_000, 1_000_000, 7)
    unpaced = simulate(at, bids, np.full(7, 1e15)).hours.sum(axis=1) / 2
    demand = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 3.0])
    budgets = unpaced * demand
    days = simulate(at, bids, budgets)

    spent = days.hours.reshape(7, 2, 24).sum(axis=2) / budgets[:, None]
    assert (spent <= 1.0).all()
    assert (spent[demand <= 0.3] >= 0.96).all()
    bound = CATCH_UP / 24 + CREDIT + SPREAD * np.log(bids / RESERVE) + days.most / budgets
    assert (days.hours / budgets[:, None] <= bound[:, None]).all()
    if per_hour == UNIFORM:
        share = days.hours[demand <= 0.3] / budgets[demand <= 0.3, None] * 24
        assert share.max() < 2.0
        assert share.min() > 0.2  # 50 lists an hour are lumpy


accounts = st.builds(Spend, st.floats(0, 1.5 * BUDGET), st.floats(-CREDIT * BUDGET, BUDGET), st.floats(0, DAY_S - 1))


@given(accounts, st.floats(0, 3 * DAY_S), st.floats(0, 3 * DAY_S))
def test_settling_often_or_seldom_comes_to_the_same(state: Spend, first: float, second: float) -> None:
    """Time without spending may be settled in any number of steps."""
    steps = settle_spend(settle_spend(state, 0.0, first, BUDGET), 0.0, second, BUDGET)
    once = settle_spend(state, 0.0, first + second, BUDGET)
    assert steps.queue == pytest.approx(once.queue, abs=1e-6 * BUDGET)
    around = abs(steps.day_s - once.day_s)
    assert min(around, DAY_S - around) < 1e-3


@given(accounts, st.floats(0, 2 * BUDGET), st.floats(0, 3 * DAY_S), st.floats(1e-3, 1e3))
def test_pacing_is_free_of_scale(state: Spend, spend: float, elapsed_s: float, scale: float) -> None:
    """A thousand times the budget and the spending: the same multiplier."""
    one = settle_spend(state, spend, elapsed_s, BUDGET)
    other = settle_spend(Spend(state.spent * scale, state.queue * scale, state.day_s), spend * scale, elapsed_s, BUDGET * scale)
    assert other.queue == pytest.approx(one.queue * scale, abs=1e-6 * BUDGET * scale)
    assert multiplier(one, BUDGET) == pytest.approx(multiplier(Spend(one.spent * scale, one.queue * scale), BUDGET * scale), abs=1e-6)


@given(accounts, st.floats(0, 2 * BUDGET), st.floats(0, 3 * DAY_S))
def test_the_multiplier_is_one_and_only_falls_with_the_queue(state: Spend, spend: float, elapsed_s: float) -> None:
    """Within [0, 1]; 1 while nothing is spent ahead; more spending never raises it; 0 once the day's budget is spent."""
    less, more = (settle_spend(state, s, elapsed_s, BUDGET) for s in (spend, spend * 1.5 + 1))
    assert 0.0 <= multiplier(more, BUDGET) <= multiplier(less, BUDGET) <= 1.0
    assert multiplier(Spend(queue=min(state.queue, 0.0)), BUDGET) == 1.0
    assert multiplier(Spend(spent=BUDGET), BUDGET) == 0.0


def test_the_even_rate_leaves_the_queue_empty() -> None:
    """Spending a day's budget evenly, second by second of allowance, is never held back and ends at the budget."""
    state = Spend()
    for _ in range(24 * 60):
        state = settle_spend(state, BUDGET / (24 * 60), 60.0, BUDGET)
    assert state.spent == pytest.approx(BUDGET / (24 * 60))  # the last minute ends with the day: it counts for the next
    assert state.queue <= BUDGET / (24 * 60)


def test_a_quiet_half_day_is_made_up_for_at_the_fastest_rate() -> None:
    """With the whole budget left at noon, an hour accrues twice its even share; with half of it left, its even share."""
    hour = BUDGET / 24
    assert settle_spend(Spend(0.0, BUDGET, DAY_S / 2), 0.0, 3600.0, BUDGET).queue == pytest.approx(BUDGET - CATCH_UP * hour)
    accrued = BUDGET / 2 * log(12 / 11)  # ∫ left / (seconds to midnight): about hour
    assert settle_spend(Spend(BUDGET / 2, BUDGET, DAY_S / 2), 0.0, 3600.0, BUDGET).queue == pytest.approx(BUDGET - accrued)


def test_allowance_left_unspent_is_kept_up_to_the_credit() -> None:
    """After a night without requests the queue stands at −credit, not at the whole night's allowance."""
    assert settle_spend(Spend(), 0.0, 8 * 3600.0, BUDGET).queue == -CREDIT * BUDGET


def test_spent_ahead_by_the_spread_bids_are_divided_by_e() -> None:
    """multiplier = exp(−queue / (SPREAD · budget)) = 1 / (1 + μ)."""
    assert multiplier(Spend(queue=SPREAD * BUDGET), BUDGET) == pytest.approx(exp(-1))


def test_a_new_day_has_a_new_budget() -> None:
    """The hard stop ends with the day; what was spent ahead stays in the queue."""
    stopped = Spend(BUDGET, 0.02 * BUDGET, DAY_S - 10)
    assert multiplier(stopped, BUDGET) == 0.0
    next_day = settle_spend(stopped, 5.0, 10.0, BUDGET)
    assert (next_day.spent, next_day.day_s, next_day.queue) == (5.0, 0.0, 0.02 * BUDGET + 5.0)
    assert multiplier(next_day, BUDGET) > 0.0


def test_a_list_that_could_pass_the_budget_is_not_entered() -> None:
    """With 100 left, a list that may cost 101 is left out and one that may cost 100 is not."""
    state = Spend(BUDGET - 100.0)
    assert multiplier(state, BUDGET, 101.0) == 0.0
    assert multiplier(state, BUDGET, 100.0) == 1.0


def test_a_result_costs_what_its_clicks_are_expected_to() -> None:
    """price × click probability × chance that the place is looked at."""
    spend = expected_spend(np.array([1000, 500]), np.array([0.1, 0.2]), discounts(2))
    assert spend.tolist() == pytest.approx([1000 * 0.1, 500 * 0.2 / log2(1 + 2)])


@given(st.lists(st.tuples(st.integers(1, 10**12), st.floats(1e-6, 1), st.floats(0, 1)), min_size=1, max_size=20))
def test_undone_prices_stay_within_the_bid(rows: list[tuple[int, float, float]]) -> None:
    """A price at or below the paced bid is, divided by the multiplier, at or below the bid, and never below what the auction charged."""
    bids, scale, part = (np.array(column) for column in zip(*rows, strict=True))
    paced = paced_bids(bids, scale)
    assert (paced <= bids).all()
    price = np.floor(paced * part).astype(np.int64)
    back = undone(price, scale, bids)
    assert back.dtype == np.int64
    assert (back <= bids).all()
    assert (back >= price).all()


def test_in_one_list_the_truth_is_best_under_a_fixed_multiplier() -> None:
    """With truthful payments divided by the multiplier, no bid earns more than the value; undivided, bidding more would."""
    bids, p, scale = np.array([1000, 700, 650, 200]) * 1000, np.array([0.05, 0.05, 0.05, 0.05]), np.array([0.5, 1.0, 1.0, 1.0])
    value = int(bids[0])

    def earned(bid: int, *, divide: bool) -> float:
        own = np.append(bid, bids[1:])
        paced = paced_bids(own, scale)
        order = rank_by_score(paced * p, 2)
        if 0 not in order:
            return 0.0
        prices = truthful_prices(order, paced, p)
        if divide:
            prices = undone(prices, scale[order], own[order])
        t = int(np.flatnonzero(order == 0)[0])
        return float(discounts(2)[t] * p[0] * (value - prices[t]))

    ladder = range(0, 3_000_000, 20_000)
    assert max(earned(bid, divide=True) for bid in ladder) <= earned(value, divide=True) + 1e-6
    assert max(earned(bid, divide=False) for bid in ladder) > earned(value, divide=False) + 1.0


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_wrong_argument_is_named(bad: float) -> None:
    """Negative, NaN and infinite amounts are refused by name, and so are budgets of 0 and multipliers that are none."""
    with pytest.raises(ValueError, match=r"^spend_micros"):
        settle_spend(Spend(), bad, 0.0, BUDGET)
    with pytest.raises(ValueError, match=r"^elapsed_s"):
        settle_spend(Spend(), 0.0, bad, BUDGET)
    for budget in (bad, 0.0):
        with pytest.raises(ValueError, match=r"^budget_micros"):
            settle_spend(Spend(), 0.0, 0.0, budget)
        with pytest.raises(ValueError, match=r"^budget_micros"):
            multiplier(Spend(), budget)
    with pytest.raises(ValueError, match=r"^multipliers"):
        paced_bids(np.array([5]), np.array([bad]))
    with pytest.raises(ValueError, match=r"^multipliers"):
        undone(np.array([5]), np.array([0.0]), np.array([5]))
    with pytest.raises(ValueError, match=r"^next_micros"):
        multiplier(Spend(), BUDGET, float("nan"))
