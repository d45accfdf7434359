"""Two releases side by side: what a trial measured, with intervals, and whether it says anything yet.

What is drawn again is a unit of users with all its requests, never the request: those of one user are not independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.metrics.intervals import Interval, interval_of_draws
from ranking.types import FloatArray, IntArray

LEAST_UNITS = 30  # of users in each arm: with fewer, percentiles of draws say little
_DRAWS = 1000

TOO_LITTLE, HIGHER, LOWER, NONE_SHOWN = "too little to tell", "higher", "lower", "no difference shown"


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of both releases; NaN where there is nothing to measure."""

    name: str
    active: float
    tried: float
    difference: Interval  # tried - active
    units: int  # of users, of the arm that has fewer

    @property
    def verdict(self) -> str:
        """What the interval says of the release on trial."""
        low, high = self.difference.low, self.difference.high
        if self.units < LEAST_UNITS or not (math.isfinite(low) and math.isfinite(high)):
            return TOO_LITTLE
        return HIGHER if low > 0 else LOWER if high < 0 else NONE_SHOWN


def paired(name: str, active: FloatArray, tried: FloatArray, units: IntArray, seed: int) -> Figure:
    """Both releases on the same requests.

    Args:
        name: of the quantity.
        active: (m,) per request; one that is NaN in either is left out.
        tried: (m,) the same of the release on trial.
        units: (m,) whose requests they are.
        seed: of the draws.
    """
    some = ~(np.isnan(active) | np.isnan(tried))
    change = _Sums.of((tried - active)[some], units[some])
    return Figure(name, _mean(active[some]), _mean(tried[some]), change.interval(seed), len(change.sizes))


def unpaired(name: str, active: FloatArray, active_units: IntArray, tried: FloatArray, tried_units: IntArray, seed: int) -> Figure:
    """Each release on its own users' requests.

    Args:
        name: of the quantity.
        active: (m,) per request of the one arm; NaN is left out.
        active_units: (m,) whose requests they are.
        tried: (l,) of the other.
        tried_units: (l,) whose those are.
        seed: of the draws.
    """
    arms = []
    for values, units in ((active, active_units), (tried, tried_units)):
        some = ~np.isnan(values)
        arms.append(_Sums.of(values[some], units[some]))
    one, other = (arm.value for arm in arms)
    rng = np.random.default_rng(seed)
    draws = arms[1].draws(rng) - arms[0].draws(rng) if all(len(arm.sizes) for arm in arms) else np.empty(0)
    return Figure(name, one, other, interval_of_draws(other - one, draws), min(len(arm.sizes) for arm in arms))


@dataclass(frozen=True, slots=True)
class _Sums:
    """Values summed by unit: all that draws of units need."""

    sums: FloatArray  # (u,)
    sizes: FloatArray  # (u,)

    @classmethod
    def of(cls, values: FloatArray, units: IntArray) -> _Sums:
        codes: NDArray[np.int64] = np.unique(units, return_inverse=True)[1]
        return cls(np.bincount(codes, values).astype(np.float64), np.bincount(codes).astype(np.float64))

    @property
    def value(self) -> float:
        return float(self.sums.sum() / self.sizes.sum()) if len(self.sizes) else math.nan

    def draws(self, rng: np.random.Generator) -> FloatArray:
        """(draws,) means, each of as many units drawn with replacement."""
        u = len(self.sizes)
        drawn = rng.integers(0, u, (_DRAWS, u))
        means: FloatArray = self.sums[drawn].sum(axis=1) / self.sizes[drawn].sum(axis=1)
        return means

    def interval(self, seed: int) -> Interval:
        return interval_of_draws(self.value, self.draws(np.random.default_rng(seed)) if len(self.sizes) else np.empty(0))


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else math.nan
