"""What many lists together do with the catalogue: how much of it is seen, how evenly, and how popular what is seen was already.

Lists come as `shown`: (r, k) item numbers 0 … items - 1, best first; -1 at the empty places of short lists.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray


def times_shown(shown: IntArray, *, items: int) -> IntArray:
    """(items,) in how many places each item of the catalogue stands.

    Raises:
        ValueError: a number that is no item.
    """
    some = shown[shown >= 0]
    if len(some) and int(some.max()) >= items:
        raise ValueError(f"shown: item {int(some.max())} is not among the {items} of the catalogue")
    return np.bincount(some, minlength=items)


def coverage(shown: IntArray, *, items: int) -> float:
    """Share of the catalogue that at least one list shows."""
    return float(np.count_nonzero(times_shown(shown, items=items))) / items if items else math.nan


def gini(counts: NDArray[Any]) -> float:
    """Gini coefficient of (n,) counts, Σ (2i - n - 1) xᵢ / (n Σ x) over ascending x: 0 all alike, towards 1 one has all; 0 of nothing.

    Of a recommender: that of `times_shown`, items never shown included.
    """
    x = np.sort(np.asarray(counts, np.float64))
    total, n = float(x.sum()), len(x)
    return float((2.0 * np.arange(1, n + 1) - n - 1.0) @ x) / (n * total) if total else 0.0


def average_popularity(shown: IntArray, popularity: NDArray[Any]) -> float:
    """ARP: mean over lists of the mean popularity of what they show (Yin et al. 2012); (items,) popularity, in its own unit."""
    return _mean_of_lists(shown, np.asarray(popularity, np.float64))


def tail_share(shown: IntArray, tail: NDArray[np.bool_]) -> float:
    """Mean over lists of the share of their places that items marked in `tail`, (items,), hold (APLT; Abdollahpouri et al. 2017)."""
    return _mean_of_lists(shown, np.asarray(tail, np.float64))


def _mean_of_lists(shown: IntArray, values: FloatArray) -> float:
    """Mean over the lists that show anything; NaN without one."""
    there = shown >= 0
    times = there.sum(axis=1)
    sums = np.where(there, values[np.where(there, shown, 0)], 0.0).sum(axis=1)
    return float((sums[times > 0] / times[times > 0]).mean()) if times.any() else math.nan
