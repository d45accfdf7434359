"""How two rankings of the same candidates differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.types import TIERS, FloatArray, IntArray

PLACES = 10  # of a list that count as its top


@dataclass(frozen=True, slots=True)
class Difference:
    """One list beside another; NaN where they have too little in common to say."""

    overlap: float  # share of the first `PLACES` that hold the same items
    correlation: float  # Spearman's, of the places of the results both have
    probability: float  # mean |other - one| of the probabilities of the results both have
    shift: float  # mean of other - one


def difference(order: IntArray, probabilities: FloatArray, other_order: IntArray, other_probabilities: FloatArray) -> Difference:
    """Compare two rankings.

    Args:
        order: (k,) indices into the candidates, best first.
        probabilities: (k,) of those.
        other_order: (l,) the same of the other ranking.
        other_probabilities: (l,) of those.
    """
    top = min(PLACES, max(len(order), len(other_order)))
    overlap = len(np.intersect1d(order[:top], other_order[:top])) / top if top else np.nan
    common, here, there = np.intersect1d(order, other_order, return_indices=True)
    if not len(common):
        return Difference(float(overlap), np.nan, np.nan, np.nan)
    change = other_probabilities[there] - probabilities[here]
    return Difference(float(overlap), _spearman(here, there), float(np.abs(change).mean()), float(change.mean()))


def tier_shares(tiers: NDArray[np.int8], order: IntArray) -> tuple[float, ...]:
    """Share of each of `TIERS` among the first `PLACES` results; NaN where there is no result.

    Args:
        tiers: (n,) codes of the candidates' tiers.
        order: (k,) indices into the candidates, best first.
    """
    top = order[:PLACES]
    if not len(top):
        return (float("nan"),) * len(TIERS)
    counts: Sequence[int] = np.bincount(tiers[top], minlength=len(TIERS)).tolist()
    return tuple(count / len(top) for count in counts)


def _spearman(here: IntArray, there: IntArray) -> float:
    """Of two (m,) arrays of distinct numbers: 1 - 6 Σ d² / (m (m² - 1)), d the differences of their ranks; NaN for fewer than two."""
    m = len(here)
    if m < 2:
        return float("nan")
    d = np.argsort(np.argsort(here)) - np.argsort(np.argsort(there))
    return float(1.0 - 6.0 * (d * d).sum() / (m * (m * m - 1)))
