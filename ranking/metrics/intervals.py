"""Bootstrap intervals. The unit that is drawn again is the list, never the row: the rows of one list are not independent (Efron 1979)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ranking.metrics.arrays import same_length
from ranking.types import FloatArray


class Interval(NamedTuple):
    """A value and its bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(values: FloatArray, seed: int, *, n: int = 1000, level: float = 0.95) -> Interval:
    """Mean of per-list values with its percentile bootstrap interval: lists are drawn again with replacement.

    Args:
        values: (m,) one value per list; NaN lists are left out.
        seed: of the draws, so that a report can be repeated.
        n: number of draws.
        level: coverage, within (0, 1).

    Returns:
        All NaN where no list has a value.
    """
    _draws(n)
    _coverage(level)
    v = np.asarray(values, np.float64)
    v = v[~np.isnan(v)]
    if not len(v):
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    means = [v[rng.integers(0, len(v), len(v))].mean() for _ in range(n)]  # one draw at a time: n × m would not fit in memory
    return interval_of_draws(float(v.mean()), np.array(means), level=level)


def paired_bootstrap_interval(ours: FloatArray, theirs: FloatArray, seed: int, *, n: int = 1000, level: float = 0.95) -> Interval:
    """Mean of `ours` - `theirs` on the same lists, with its interval; an interval off 0 is a difference that repeats.

    Args:
        ours: (m,) per-list values.
        theirs: (m,) values of the same lists; a list that is NaN in either is left out.
        seed: as in `bootstrap_interval`, as are `n` and `level`.
        n: number of draws.
        level: coverage.
    """
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    same_length("theirs", a, b)
    return bootstrap_interval(a - b, seed, n=n, level=level)


def list_draws(lists: int, seed: int, *, n: int = 1000) -> FloatArray:
    """(n, lists) how often each list occurs in each of `n` draws of as many lists with replacement; for the metrics of `pooled`."""
    _draws(n)
    rng = np.random.default_rng(seed)
    return rng.multinomial(lists, np.full(lists, 1.0 / lists), size=n).astype(np.float64)


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
