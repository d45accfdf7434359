"""What becomes of counts, by one rule in the batch tables and in the stream: tiers of popularity, smoothed rates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.features import HEAD_SHARE, PROMO_RATE_PRIOR


def tiers(purchases: NDArray[np.float32]) -> NDArray[np.int8]:
    """Popularity tiers of a whole catalogue, (n,) index into `ranking.types.TIERS`.

    Head: fewer than `HEAD_SHARE` of the items ever sold sold more (so equals share a tier); tail: sold; new: never sold.

    Args:
        purchases: (n,) baskets with each item, of every item there is. O(n log n).
    """
    return tiers_among(purchases, np.sort(purchases[purchases > 0]))


def tiers_among(purchases: NDArray[Any], sold: NDArray[Any]) -> NDArray[np.int8]:
    """Tiers of some items, (n,), given the ascending purchases of every item ever sold, (s,): `tiers` without the sorting. O(n log s)."""
    more = len(sold) - np.searchsorted(sold, purchases, side="right")  # items that sold more than this one
    return np.where(purchases <= 0, 2, np.where(more < HEAD_SHARE * len(sold), 0, 1)).astype(np.int8)


def smoothed_rate(successes: NDArray[np.float64], trials: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Rates pulled towards `mean` by `PROMO_RATE_PRIOR` trials of it, so that one lucky sale of a new item is not a rate of 1."""
    return (successes + PROMO_RATE_PRIOR * mean) / (trials + PROMO_RATE_PRIOR)
