"""Budgets: what each advertiser may spend in a day, spread over it, by the same kind of virtual queue that evens out exposure.

An advertiser's queue holds what it spent ahead of its allowance; the fuller the queue, the lower its bids are set (μ, bids ×
1/(1 + μ)). The allowance accrues at what is left of the budget over what is left of the day, at most `CATCH_UP` times the even rate,
so that a quiet night is made up for and a quiet day does not end in a spree. Everything is relative to the budget: small and large
advertisers are paced alike. (Adaptive pacing: Balseiro and Gur 2019, "Learning in Repeated Auctions with Budgets", Management Science
65(9); exponential in the queue, as entropic mirror descent is in Balseiro, Lu and Mirrokni 2020, so that a demand of 2 budgets or of
100 needs a queue of about the same small size.)

What is spent. There is no click feedback here, so a result costs what it is expected to: price × click probability × the chance that
its place is looked at. What clicks really cost differs by chance and by the calibration error.

Bounds, for one writer. A day's spend never passes the budget if bids are limited to what is left of it over the clicks the coming list can
bring, or if `multiplier` is told what that list may cost at most; each list settled late, or by a process that has not synced, can add
that much once. No hour takes more of the budget than `CATCH_UP` / 24 + `CREDIT` + `SPREAD` · ln(bid / reserve), plus one list.

Truthfulness. In one list the multipliers are fixed beforehand. If the bid is multiplied before the auction and the price divided by the
same after it (`undone`), a bidder pays the least bid of its own that would have won; where the auction's payments are truthful, bidding
one's value stays a dominant strategy in that list: also in the one that takes the last of a day's budget, if bids are limited to what is
left over the clicks the list can bring, which does not depend on them. Across lists it is none: the
multiplier follows past spending, hence past bids. What is known there is an equilibrium, for many bidders and lists: if all others pace,
pacing one's true value is nearly the best one can do (Balseiro and Gur 2019). In it a bidder pays the price of the paced auction
undivided, which buys more clicks for the budget, but rewards overbidding for whoever would not run out of it.

This module knows numbers; not whose they are, nor where they are kept. A store applies `settle_spend` inside its transaction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ranking.types import FloatArray, IntArray

DAY_S = 86_400.0
CATCH_UP = 2.0  # times the even rate: the fastest that allowance accrues
CREDIT = 0.01  # of a day's budget: allowance left unspent that is kept for later, a quarter of an hour's
SPREAD = 0.01  # of a day's budget: spent ahead by this much, bids are divided by e


@dataclass(frozen=True, slots=True)
class Spend:
    """One advertiser's account.

    Attributes:
        spent: micros since the day began.
        queue: micros spent ahead of the allowance; down to −`CREDIT` of the budget.
        day_s: seconds since the day began, at the last settlement.
    """

    spent: float = 0.0
    queue: float = 0.0
    day_s: float = 0.0


def settle_spend(state: Spend, spend_micros: float, elapsed_s: float, budget_micros: float) -> Spend:
    """The account after `elapsed_s` seconds at whose end `spend_micros` were spent. The queue goes on from day to day.

    A day is 24 hours from the account's first; what was spent while one day ended counts for the next.

    Raises:
        ValueError: naming the argument: negative or not finite, or a budget of 0.
    """
    for name, value in (("spend_micros", spend_micros), ("elapsed_s", elapsed_s)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name}: must be finite and not negative, got {value}")
    _check_budget(budget_micros)
    left_s = DAY_S - state.day_s
    if elapsed_s < left_s:
        allowance = _allowance(budget_micros - state.spent, left_s, elapsed_s, budget_micros)
        spent, day_s = state.spent + spend_micros, state.day_s + elapsed_s
    else:
        days, day_s = divmod(elapsed_s - left_s, DAY_S)
        allowance = _allowance(budget_micros - state.spent, left_s, left_s, budget_micros)
        allowance += days * _allowance(budget_micros, DAY_S, DAY_S, budget_micros) + _allowance(budget_micros, DAY_S, day_s, budget_micros)
        spent = spend_micros
    return Spend(float(spent), max(state.queue - allowance, -CREDIT * budget_micros) + spend_micros, day_s)


def _allowance(unspent: float, left_s: float, elapsed_s: float, budget_micros: float) -> float:
    """What accrues in the first `elapsed_s` of the `left_s` seconds to the day's end, of which `unspent` micros of the budget are left.

    The integral of min(unspent / seconds left, fastest rate): settling often or seldom, nothing spent, comes to the same.
    """
    if unspent <= 0.0:
        return 0.0
    fastest = CATCH_UP * budget_micros / DAY_S
    slow_s = min(max(left_s - unspent / fastest, 0.0), elapsed_s)  # until what is left could only just be spent at the fastest rate
    return unspent * math.log(left_s / (left_s - slow_s)) + fastest * (elapsed_s - slow_s)


def multiplier(state: Spend, budget_micros: float, next_micros: float = 0.0) -> float:
    """What the advertiser's bids are multiplied by, within [0, 1]; 0: the day's budget is spent, it takes no part.

    Args:
        state: as settled last.
        budget_micros: per day.
        next_micros: the most the coming list may cost; 0 where the day's budget may be passed by one list.

    Raises:
        ValueError: naming the argument.
    """
    _check_budget(budget_micros)
    if not next_micros >= 0.0:
        raise ValueError(f"next_micros: must not be negative, got {next_micros}")
    if state.spent >= budget_micros or state.spent + next_micros > budget_micros:
        return 0.0
    return math.exp(-max(state.queue, 0.0) / (SPREAD * budget_micros))  # 1 / (1 + μ) with μ = exp(queue / (SPREAD · budget)) − 1


def expected_spend(price_micros: IntArray, probabilities: FloatArray, examination: FloatArray) -> FloatArray:
    """(k,) expected cost of each result in micros: price per click × click probability × chance that its place is looked at."""
    return np.asarray(price_micros, np.float64) * probabilities * examination


def paced_bids(bid_micros: IntArray, multipliers: FloatArray) -> IntArray:
    """(n,) int64 bids to hold the auction with, rounded down; one that falls below the reserve, or has multiplier 0, takes no part."""
    return np.floor(np.asarray(bid_micros, np.float64) * _checked(multipliers)).astype(np.int64)


def undone(price_micros: IntArray, multipliers: FloatArray, bid_micros: IntArray) -> IntArray:
    """(k,) prices per click of a paced auction as prices of the bids before pacing: divided by the multiplier, at most the bid.

    Whole micros of the paced bid are 1 / multiplier micros here: no lie gains more than that per click by rounding.

    Args:
        price_micros: (k,) what the auction of the paced bids charges.
        multipliers: (k,) within (0, 1], of the same results.
        bid_micros: (k,) their bids before pacing.

    Raises:
        ValueError: naming `multipliers`.
    """
    scale = _checked(multipliers)
    if not (scale > 0.0).all():
        raise ValueError("multipliers: a result shown has one above 0")
    return np.minimum(np.ceil(np.asarray(price_micros, np.float64) / scale), bid_micros).astype(np.int64)


def _checked(multipliers: FloatArray) -> FloatArray:
    scale = np.asarray(multipliers, np.float64)
    if not ((scale >= 0.0) & (scale <= 1.0)).all():
        raise ValueError("multipliers: must be within [0, 1]")
    return scale


def _check_budget(budget_micros: float) -> None:
    if not (math.isfinite(budget_micros) and budget_micros > 0.0):
        raise ValueError(f"budget_micros: must be finite and above 0, got {budget_micros}")
