"""Bootstrap intervals. What is drawn again is the list, never the row: the rows of one list are not independent (Efron 1979).

Nor are several lists of one user: given `groups`, whole users are drawn with all their lists.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.metrics.arrays import same_length
from ranking.types import FloatArray


class Interval(NamedTuple):
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    values: FloatArray, seed: int, *, n: int = 1000, level: float = 0.95, groups: NDArray[Any] | None = None
) -> Interval:
    """Mean of per-list values with its percentile bootstrap interval: lists, or groups of them, are drawn again with replacement.

    Args:
        values: (m,) one value per list; NaN lists are left out.
        seed: of the draws, so that a report can be repeated.
        n: number of draws.
        level: coverage, within (0, 1).
        groups: (m,) whose list it is; None: lists of different users.

    Returns:
        All NaN where no list has a value.
    """
    _draws(n)
    _coverage(level)
    some = ~np.isnan(np.asarray(values, np.float64))
    if not some.any():
        return Interval(math.nan, math.nan, math.nan)
    v: FloatArray = np.asarray(values, np.float64)[some]
    codes = np.arange(len(v)) if groups is None else np.unique(np.asarray(groups)[some], return_inverse=True)[1]
    sums, sizes = np.bincount(codes, v), np.bincount(codes)
    rng = np.random.default_rng(seed)
    means = np.empty(n)
    for i in range(n):  # one draw at a time: n × m would not fit in memory
        drawn = rng.integers(0, len(sums), len(sums))
        means[i] = sums[drawn].sum() / sizes[drawn].sum()
    return interval_of_draws(float(v.mean()), means, level=level)


def paired_bootstrap_interval(
    ours: FloatArray, theirs: FloatArray, seed: int, *, n: int = 1000, level: float = 0.95, groups: NDArray[Any] | None = None
) -> Interval:
    """Mean of `ours` - `theirs` on the same lists, with its interval; an interval off 0 is a difference that repeats.

    Args:
        ours: (m,) per-list values.
        theirs: (m,) values of the same lists; a list that is NaN in either is left out.
        seed: as in `bootstrap_interval`, as are `n`, `level` and `groups`.
        n: number of draws.
        level: coverage.
        groups: (m,) whose list it is.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    same_length("theirs", a, b)
    return bootstrap_interval(a - b, seed, n=n, level=level, groups=groups)


def list_draws(lists: int, seed: int, *, n: int = 1000, groups: NDArray[Any] | None = None) -> FloatArray:
    """(n, lists) how often each list occurs in each of `n` draws with replacement; for the metrics of `pooled`.

    Args:
        lists: how many there are; as many are drawn, or as many groups as there are groups.
        seed: of the draws.
        n: number of draws.
        groups: (lists,) whose list it is; a group is drawn with all its lists.

    Raises:
        ValueError: no list, no draw, or groups that are not one per list.
    """
    _draws(n)
    if lists < 1:
        raise ValueError(f"lists: need at least 1 to draw from, got {lists}")
    if groups is not None and len(groups) != lists:
        raise ValueError(f"groups: need one per list, got {len(groups)} for {lists}")
    codes = np.arange(lists) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(units, np.full(units, 1.0 / units), size=n)
    return drawn[:, codes].astype(np.float64)


def interval_of_draws(value: float, draws: FloatArray, *, level: float = 0.95) -> Interval:
    """`value` between the percentiles of its (n,) values on draws; draws on which it is undefined are left out."""
    _coverage(level)
    some = draws[np.isfinite(draws)]
    if not len(some):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(some, ((1.0 - level) / 2.0, (1.0 + level) / 2.0))
    return Interval(value, float(low), float(high))


def _draws(n: int) -> None:
    if n < 1:
        raise ValueError(f"n: must be at least 1, got {n}")


def _coverage(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: must be within (0, 1), got {level}")
