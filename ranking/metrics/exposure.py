"""Who gets the attention: a group's exposure on one list (AWRF) and an item's over many (expected exposure).

The literature differs in its discounts, and figures are only comparable under its own; each function says which it uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.metrics.arrays import as_weights, group_codes, known
from ranking.types import FloatArray, IntArray


def awrf(shown: NDArray[Any], shares: FloatArray) -> float:
    """Attention-weighted rank fairness, 1 - JS²(exposure, shares), base 2: 1 exactly where exposure is as wanted, 0 at the furthest.

    JS² is the Jensen-Shannon divergence, JS its root; the discount is 1 / log2(max(rank, 2)) (TREC 2022 Fair Ranking track; Sapiezynski
    et al. 2019).

    Args:
        shown: (k,) group codes from the first place on.
        shares: (g,) the distribution of exposure that is wanted.

    Raises:
        ValueError: the shares are no distribution, the list is empty, or a code has no share.
    """
    wanted = np.asarray(shares, np.float64)
    if not abs(float(wanted.sum()) - 1.0) <= 1e-6 or not len(shown):  # NaN is no distribution either
        raise ValueError(f"awrf: needs shares that sum to 1 and a list, got {wanted.sum():g} and {len(shown)} places")
    codes = group_codes(shown, len(wanted))
    attention = 1.0 / np.log2(np.maximum(np.arange(1, len(shown) + 1), 2))
    got = np.bincount(codes, attention, len(wanted)) / attention.sum()
    middle = (got + wanted) / 2.0
    return 1.0 - (_bits(got, middle) + _bits(wanted, middle)) / 2.0


def expected_exposure(orders: IntArray, items: int, weights: FloatArray | None = None) -> FloatArray:
    """(items,) mean exposure of each item over rankings (Diaz et al. 2020, section 4).

    Args:
        orders: (r, k) item numbers of each ranking, best first, drawn from a stochastic ranker or one per request of the same query.
        items: how many there are.
        weights: (k,) exposure of each place; default 1 / log2(rank + 1).

    Raises:
        ValueError: a place holds no item number below `items`, or a weight that is negative or not finite.
    """
    if orders.size and (orders.min() < 0 or orders.max() >= items):
        raise ValueError(f"orders: item numbers must be in [0, {items}), got {orders.min()} to {orders.max()}")
    places = discounts(orders.shape[1]) if weights is None else as_weights("weights", weights)
    return np.bincount(orders.ravel(), np.tile(places, len(orders)), items) / len(orders)


def target_exposure(gains: FloatArray, weights: FloatArray) -> FloatArray:
    """(n,) exposure of equally relevant items shared equally: each grade gets the places it has in the best order (Diaz, eq. 4).

    Args:
        gains: (n,) relevance.
        weights: (k,) exposure of each place, k ≤ n; places behind have none.

    Raises:
        ValueError: a gain that is missing, or a weight that is negative or not finite.
    """
    g = np.asarray(known("gains", gains), np.float64)
    places = np.concatenate([as_weights("weights", weights), np.zeros(len(g) - len(weights))])
    grades, codes = np.unique(-g, return_inverse=True)  # best grade first
    in_order = np.sort(codes)
    return (np.bincount(in_order, places, len(grades)) / np.bincount(codes, minlength=len(grades)))[codes]


def exposure_loss(exposure: FloatArray, target: FloatArray) -> float:
    """EE-L = ‖ε - ε*‖² = EE-D - 2 EE-R + ‖ε*‖²: 0 is as wanted."""
    gap = exposure - target
    return float(gap @ gap)


def exposure_disparity(exposure: FloatArray) -> float:
    """EE-D = ‖ε‖²: how unevenly exposure is spread, whatever is relevant."""
    return float(exposure @ exposure)


def exposure_relevance(exposure: FloatArray, target: FloatArray) -> float:
    """EE-R = ε · ε*: how much of the exposure goes where it is wanted."""
    return float(exposure @ target)


def _bits(p: FloatArray, q: FloatArray) -> float:
    """KL(p ‖ q) in bits, where q > 0 wherever p is."""
    some = p > 0.0
    return float(p[some] @ np.log2(p[some] / q[some]))
