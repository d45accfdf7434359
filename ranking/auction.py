"""The ads auction: what a place is worth, and what a click on it costs.

Candidates are ranked by expected value, bid × probability of a click, and pay the generalised second price (Edelman, Ostrovsky,
Schwarz 2007): the least bid with which the result would still have beaten the best one below it. The probability is the calibrated
one; the auction never changes it.

A result that a fairness floor lifted competes for a place reserved for its group, so its price is the least bid that still beats the
best of its own group left below; what the others would have paid is the floor's cost, not the advertiser's.

What it does not promise: generalised second price is not truthful, bidding one's value need not be the best strategy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    lifted: IntArray | None = None,
    groups: NDArray[Any] | None = None,
) -> IntArray:
    """The price per click of each result.

    The result at place t pays (the highest expected value among the results below it and the candidates not returned) divided by
    its own probability, rounded up to a whole micro, at least the reserve and at most its bid. The last one, with nobody
    left below, pays the reserve. For a lifted result only its own group counts as below.

    Args:
        order: (k,) indices of the returned candidates, best first.
        bid_micros: (n,) bids of all candidates that took part, returned or not; those below the reserve take no part.
        probabilities: (n,) calibrated probabilities of a click.
        reserve_micros: least price per click.
        lifted: (k,) the group whose floor lifted the result, -1 for none, as in `FairRanking.binding`; default: nothing was lifted.
        groups: (n,) group codes; needed with `lifted`.

    Returns:
        (k,) int64 micros per click.

    Raises:
        ValueError: naming the argument: a bid below the reserve, a negative reserve, a probability outside [0, 1], or lengths that differ.
    """
    bids, p = np.asarray(bid_micros, np.int64), np.asarray(probabilities, np.float64)
    if bids.shape != p.shape:
        raise ValueError(f"probabilities: need one per bid ({len(bids)}), got {len(p)}")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("probabilities: must be within [0, 1]")
    if reserve_micros < 0:
        raise ValueError(f"reserve_micros: must not be negative, got {reserve_micros}")
    if (bids < reserve_micros).any():
        raise ValueError(f"bid_micros: every bid must reach the reserve of {reserve_micros}, got {bids.min()}")
    value = expected_value(bids, p)
    left_out = np.ones(len(bids), bool)
    left_out[order] = False
    below = np.append(value[order], value[left_out].max(initial=0.0))  # (k + 1,)
    rival = np.maximum.accumulate(below[::-1])[::-1][1:]  # (k,) the best value below each place
    if lifted is not None and groups is not None:
        waiting = np.ones(len(bids), bool)  # candidates not placed above
        for t, (index, group) in enumerate(zip(order, lifted, strict=True)):
            waiting[index] = False
            if group >= 0:
                rival[t] = value[waiting & (groups == group)].max(initial=0.0)
    own = p[order]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        price = np.where(rival > 0.0, rival / own, 0.0)  # a result nobody clicks (own = 0) faces an infinite price: its bid
    return np.clip(np.ceil(np.minimum(price, bids[order]) * (1.0 - _ROUNDING)), reserve_micros, bids[order]).astype(np.int64)
