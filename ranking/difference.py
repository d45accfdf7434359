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
    overlap = len(set(order[:top].tolist()) & set(other_order[:top].tolist())) / top if top else float("nan")
    place = {item: i for i, item in enumerate(order.tolist())}
    pairs = [(place[item], i) for i, item in enumerate(other_order.tolist()) if item in place]
    if not pairs:
        return Difference(overlap, float("nan"), float("nan"), float("nan"))
    here, there = np.array(pairs).T
    change = other_probabilities[there] - probabilities[here]
    return Difference(overlap, _spearman(here), float(np.abs(change).mean()), float(change.mean()))


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


def _spearman(here: IntArray) -> float:
    """Of (m,) distinct places of the one list, in the order of the other: 1 - 6 Σ d² / (m (m² - 1)), d the differences of ranks.

    NaN for fewer than two.
    """
    m = len(here)
    if m < 2:
        return float("nan")
    ranks = np.empty(m, np.int64)
    ranks[np.argsort(here)] = np.arange(m)
    d = ranks - np.arange(m)
    return float(1.0 - 6.0 * (d * d).sum() / (m * (m * m - 1)))
