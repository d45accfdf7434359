"""The ads auction: what a place is worth, and what a click on it costs.

Candidates are ranked by expected value, bid × probability of a click + the price of their group (what exposure owed to it is worth, in
micros per impression), and pay the generalised second price (Edelman, Ostrovsky, Schwarz 2007): the least bid with which the result
would still have beaten the best one below it. The group price is part of what it beat it with, so it is taken off again: a price per
click that forgot it would charge the group for its own help. The probability is the calibrated one; the auction never changes it.

A result that a fairness floor lifted competes for a place reserved for its group, so its price is the least bid that still beats the
best of its own group left below; what the others would have paid is the floor's cost, not the advertiser's. Where a better candidate
stands below because a ceiling, or somebody else's floor, barred it, its kind are no competitors: nobody pays to beat who cannot come.

What it does not promise: generalised second price is not truthful, bidding one's value need not be the best strategy. Payments under
which it is are in `ranking.auction.truthful`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.auction.bids import checked, checked_order
from ranking.types import FloatArray, IntArray

_ROUNDING = 1e-15  # relative; (b · p) / p may exceed b by this much, and must not round up to the next micro


def expected_value(bid_micros: IntArray, probabilities: FloatArray) -> FloatArray:
    """(n,) expected revenue of one impression in micros, if the click is paid at the bid: bid × probability.

    Args:
        bid_micros: (n,) most the advertiser pays per click, in micros.
        probabilities: (n,) calibrated probability of a click.
    """
    return np.asarray(bid_micros, np.float64) * np.asarray(probabilities, np.float64)


def gsp_prices(
    order: IntArray,
    bid_micros: IntArray,
    probabilities: FloatArray,
    *,
    reserve_micros: int = 0,
    prices: FloatArray | None = None,
    lifted: IntArray | None = None,
    groups: NDArray[Any] | None = None,
) -> IntArray:
    """The price per click of each result.

    With score = bid × probability + group price: the result at place t pays (the highest score among the results below it and the
    candidates not returned − its own group price) / its own probability, rounded up to a whole micro, at least the reserve and at most
    its bid. The last one, with nobody left below, pays the reserve. For a lifted result only its own group counts as below; for another
    one that has a higher score below it, only candidates of whose groups none below scores higher (all, without `groups`).

    Args:
        order: (k,) indices of the returned candidates, best first.
        bid_micros: (n,) bids of all candidates that took part, returned or not; those below the reserve take no part.
        probabilities: (n,) the click probabilities the bids were multiplied by.
        reserve_micros: least price per click.
        prices: (n,) each candidate's group price, micros per impression; default 0.
        lifted: (k,) the group whose floor lifted the result, -1 for none, as in `FairRanking.binding`; default: nothing was lifted.
        groups: (n,) group codes, or (A, n) with a row of group ids per rule, where floors or ceilings made the order; needed with `lifted`.

    Returns:
        (k,) int64 micros per click. O(n + k), and O(A n) more for each lifted result, O(n) for each with a higher score below it.

    Raises:
        ValueError: naming the argument: a bid that is no whole number or below the reserve, a negative reserve, a probability outside
            [0, 1], a group price that is not finite, indices that are none, or lengths that differ.
    """
    bids, p, extra = checked(bid_micros, probabilities, prices, reserve_micros)
    order = checked_order(order, len(bids))
    k = len(order)
    score = bids * p + extra
    place = np.full(len(bids), k)  # (n,) k for those not returned
    place[order] = np.arange(k)
    below = np.append(score[order], score[place == k].max(initial=-np.inf))  # (k + 1,)
    rival = np.maximum.accumulate(below[::-1])[::-1][1:]  # (k,) the best score below each place
    if lifted is not None:
        lifted, codes = _checked_groups(lifted, groups, k, len(bids))
        rows = np.flatnonzero(lifted >= 0)
        if len(rows):
            same = (codes[:, None, :] == lifted[rows][None, :, None]).any(axis=0)  # (rows, n)
            rival[rows] = np.where(same & (place > rows[:, None]), score, -np.inf).max(axis=1)
        barring = np.flatnonzero((lifted < 0) & (rival > score[order]))
        if len(barring):
            cells, cell = np.unique(codes, axis=1, return_inverse=True)
            for t in barring.tolist():
                behind = place > t
                best = np.full(cells.shape[1], -np.inf)  # of those who share all groups
                np.maximum.at(best, cell[behind], score[behind])
                rival[t] = best.max(initial=-np.inf, where=best <= score[order[t]])
    own, group_price, bid = p[order], extra[order], bids[order]
    margin = rival - group_price
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # A result nobody clicks (own = 0) faces an infinite price, hence its bid, and one that needs no bid to stay a negative one.
        price = np.where(margin > 0.0, (margin - _ROUNDING * (np.abs(rival) + np.abs(group_price))) / own, 0.0)
    whole: IntArray = np.ceil(np.clip(price, reserve_micros, bid)).astype(np.int64)  # reserve and bid are whole: still between them
    return whole


def _checked_groups(lifted: IntArray, groups: NDArray[Any] | None, k: int, n: int) -> tuple[IntArray, NDArray[Any]]:
    if len(lifted) != k:
        raise ValueError(f"lifted: need one per result ({k}), got {len(lifted)}")
    if groups is None:
        raise ValueError("groups: needed with lifted")
    codes = np.atleast_2d(groups)
    if codes.ndim != 2 or codes.shape[1] != n:
        raise ValueError(f"groups: need one per bid ({n}), got shape {codes.shape}")
    return np.asarray(lifted), codes
