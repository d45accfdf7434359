"""Metrics of one ranked list, called alike: `metric(scores, gains, *, k=…)`, (n,) each.

A positive has a gain above 0; a gain that is missing is refused. A list without any positive says nothing about a ranker: its value is
NaN, and means leave it out. Positives lost before ranking (in retrieval) still count where `ideal_gains` names them. For many lists at
once see `flat`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.metrics.arrays import known, ordered
from ranking.types import FloatArray

Gain = Literal["linear", "exponential"]


def ndcg_at_k(
    scores: FloatArray,
    gains: FloatArray,
    *,
    k: int | None = None,
    gain: Gain = "linear",
    ideal_gains: FloatArray | None = None,
) -> float:
    """Normalised discounted cumulative gain of the first `k`, discount 1 / log2(rank + 1) (Järvelin and Kekäläinen 2002).

    Args:
        scores: (n,).
        gains: (n,) relevance, not negative.
        k: places that count; default all.
        gain: `linear` counts rel, `exponential` 2^rel - 1 (Burges et al. 2005).
        ideal_gains: (m,) relevance of everything that could have been shown, m ≥ n; default `gains`.
    """
    order, rel = ordered(scores, gains, k)
    ideal = np.sort(_ideal(gains, ideal_gains))[::-1][:k]
    if gain == "exponential":
        rel, ideal = np.exp2(rel) - 1.0, np.exp2(ideal) - 1.0
    best = float(ideal @ discounts(len(ideal)))
    return float(rel @ discounts(len(order))) / best if best > 0.0 else math.nan


def recall_at_k(scores: FloatArray, gains: FloatArray, *, k: int | None = None, ideal_gains: FloatArray | None = None) -> float:
    """Share of all positives that stand among the first `k`."""
    _, rel = ordered(scores, gains, k)
    positives = np.count_nonzero(_ideal(gains, ideal_gains) > 0.0)
    return np.count_nonzero(rel > 0.0) / positives if positives else math.nan


def precision_at_k(scores: FloatArray, gains: FloatArray, *, k: int | None = None, ideal_gains: FloatArray | None = None) -> float:
    """Share of `k` places that positives hold; places that a shorter list leaves empty hold none."""
    order, rel = ordered(scores, gains, k)
    if not (_ideal(gains, ideal_gains) > 0.0).any():
        return math.nan
    places = len(order) if k is None else k
    return np.count_nonzero(rel > 0.0) / places if places else 0.0


def reciprocal_rank(scores: FloatArray, gains: FloatArray, *, k: int | None = None, ideal_gains: FloatArray | None = None) -> float:
    """1 / rank of the first positive; 0 where it is not among the first `k`. Its mean over lists is MRR."""
    _, rel = ordered(scores, gains, k)
    if not (_ideal(gains, ideal_gains) > 0.0).any():
        return math.nan
    hits = np.flatnonzero(rel > 0.0)
    return 1.0 / (1.0 + float(hits[0])) if len(hits) else 0.0


def average_precision(scores: FloatArray, gains: FloatArray, *, k: int | None = None, ideal_gains: FloatArray | None = None) -> float:
    """Mean of the precision at each positive's rank, over all positives; 0 for those not among the first `k`. Its mean is MAP."""
    _, rel = ordered(scores, gains, k)
    positives = np.count_nonzero(_ideal(gains, ideal_gains) > 0.0)
    hits = np.flatnonzero(rel > 0.0)
    return float((np.arange(1, len(hits) + 1) / (hits + 1)).sum()) / positives if positives else math.nan


def group_share_at_k(scores: FloatArray, groups: NDArray[Any], *, group: int, k: int | None = None) -> float:
    """Share of the first `k` places that the items of `group` hold; NaN for an empty list."""
    _, codes = ordered(scores, groups, k, name="groups")
    return float((codes == group).mean()) if len(codes) else math.nan


def _ideal(gains: FloatArray, ideal_gains: FloatArray | None) -> FloatArray:
    return np.asarray(gains if ideal_gains is None else known("ideal_gains", ideal_gains), np.float64)
