"""Ranking of one list when every candidate is in several groups at once, such as a popularity tier and a seller, each with bounds.

With overlapping groups the best order is NP-hard to find (Celis, Straszak, Vishnoi 2018), so this is a search that says how far from the
best it may have ended: a beam over the prefixes, whose states are how many candidates of each cell are used. As long as the beam drops no
state it is an exact dynamic program. This module knows integer group codes and scores; not what a group means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.beam import search
from ranking.fairness.cells import cells_of, ranking_of
from ranking.fairness.floors import FairRanking, checked, rank_with_minima
from ranking.fairness.windows import rank_between
from ranking.types import FloatArray, IntArray

_WIDTH = 32  # states kept per place
_ROUNDING = 1e-12


def rank_with_bounds(
    scores: FloatArray, codes: NDArray[Any], lower: NDArray[Any], upper: NDArray[Any], weights: FloatArray, *, width: int = _WIDTH
) -> FairRanking:
    """Rank so that among the first j places, for every j ≤ K, each group g has at least lower[g, j - 1] and at most upper[g, j - 1].

    A group with fewer candidates than its floor asks for is asked for all of them. Where no order within the bounds is found, the list
    misses as few places as could be found, summed over floors and prefixes, and then is above the ceilings by as few.

    Args:
        scores: (n,) finite floats, higher is better.
        codes: (A, n) integers: the flat group id of each candidate, per attribute; no id is of two attributes.
        lower: (G, K) integers, K at most n: not negative, not decreasing along a row; the floors of one attribute ask for at most j of
            the first j places.
        upper: (G, K) integers, not decreasing along a row, not below `lower`.
        weights: (K,) what a place is worth, not negative and not increasing.
        width: states kept per place; the time grows with it, and the gap shrinks.

    Returns:
        The ranking of K places. Its `gap` is at most (best − found) / (best − c), where best and found are Σ weight · score and
        c = Σ weight · min(0, lowest score); 0 where the list is proven optimal.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    scores, lower, upper, weights = np.asarray(scores, np.float64), np.asarray(lower), np.asarray(upper), np.asarray(weights, np.float64)
    codes = np.atleast_2d(np.asarray(codes))
    for row in codes:
        checked(scores, row, len(lower), lower.shape[1])
    k = lower.shape[1]
    if k > len(scores) or lower.shape != upper.shape or (np.diff(lower, axis=1, prepend=0) < 0).any() or (np.diff(upper, axis=1) < 0).any():
        raise ValueError(f"lower, upper: need one column per place, at most {len(scores)}, and rows that do not decrease")
    if (lower > upper).any():
        raise ValueError("lower, upper: a floor is above its ceiling")
    if weights.shape != (k,) or not (np.isfinite(weights).all() and (weights >= 0).all() and (np.diff(weights) <= 0).all()):
        raise ValueError(f"weights: need one for each of {k} places, finite, not negative and not increasing")
    cells = cells_of(scores, codes, len(lower))
    shifted = scores - scores.min(initial=0.0) if len(scores) else scores  # so that no place is worth less than nothing
    lower, upper = lower.astype(np.int64), upper.astype(np.int64)
    feasible = np.minimum(lower, cells.have[:, None])
    best = _best_prefixes(shifted, codes, feasible)
    found = search(cells, shifted[cells.by_score], feasible, upper, weights, best, width)
    bound = min(found.bound, float(weights @ shifted[cells.by_score[:k]]))
    if found.broken <= 0.0:
        bound = min(bound, float((weights - np.append(weights[1:], 0.0)) @ best))
        if bound > found.value * (1.0 + _ROUNDING):
            bound = min([bound, *(_bound_alone(shifted, codes, a, feasible, upper, weights) for a in range(len(codes)))])
    gap = 1.0 - found.value / bound if bound > found.value * (1.0 + _ROUNDING) else 0.0
    return ranking_of(cells, found.sequence, lower, upper, gap)


def _best_prefixes(scores: FloatArray, codes: IntArray, lower: IntArray) -> FloatArray:
    """(K,) at least the sum of the first 1 … K scores of any list that keeps the floors: for each, the least that one attribute allows.

    The order that is best for one attribute's floors is so for every position weight, hence for each prefix.
    """
    k = lower.shape[1]
    least: FloatArray = np.min([np.cumsum(scores[rank_with_minima(scores, row, _only(row, lower, 0), k).order]) for row in codes], axis=0)
    return least


def _bound_alone(scores: FloatArray, codes: IntArray, a: int, lower: IntArray, upper: IntArray, weights: FloatArray) -> float:
    """At least the utility of any list within the bounds of attribute `a`: that of the best."""
    k = lower.shape[1]
    fair = rank_between(scores, codes[a], _only(codes[a], lower, 0), _only(codes[a], upper, k), weights)
    return np.inf if fair.excess.any() else float(weights @ scores[fair.order])


def _only(groups: IntArray, bounds: IntArray, other: int) -> IntArray:
    """The bounds of the groups that occur, `other` for those that do not."""
    out = np.full_like(bounds, other)
    present = np.unique(groups)
    out[present] = bounds[present]
    return out
