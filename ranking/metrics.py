"""Metrics of lists and of probabilities, with their conventions fixed once.

List metrics are called alike, `metric(scores, gains, *, k=…)`: one list, (n,) each. The list is ordered by score descending, ties in
input order. A positive has a gain above 0. A list without any positive says nothing about a ranker: its value is NaN, and the
bootstrap leaves such lists out. Positives lost before ranking (in retrieval) still count where `ideal_gains` names them.

Metrics of probabilities are called `metric(probabilities, labels)`: (n,) each, pooled over lists, labels 0 or 1.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_by_score
from ranking.types import FloatArray

_P_MIN = 1e-15  # probabilities of exactly 0 or 1 would make log loss infinite on a single mistake


def ndcg_at_k(
    scores: FloatArray,
    gains: FloatArray,
    *,
    k: int | None = None,
    gain: Literal["linear", "exponential"] = "linear",
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
    order, rel = _ordered(scores, gains, k)
    ideal = np.sort(_ideal(gains, ideal_gains))[::-1][:k]
    if gain == "exponential":
        rel, ideal = np.exp2(rel) - 1.0, np.exp2(ideal) - 1.0
    best = float(ideal @ discounts(len(ideal)))
    return float(rel @ discounts(len(order))) / best if best > 0.0 else math.nan


def recall_at_k(scores: FloatArray, gains: FloatArray, *, k: int | None = None, ideal_gains: FloatArray | None = None) -> float:
    """Share of all positives that stand among the first `k`."""
    _, rel = _ordered(scores, gains, k)
    positives = np.count_nonzero(_ideal(gains, ideal_gains) > 0.0)
    return np.count_nonzero(rel > 0.0) / positives if positives else math.nan


def reciprocal_rank(scores: FloatArray, gains: FloatArray, *, k: int | None = None, ideal_gains: FloatArray | None = None) -> float:
    """1 / rank of the first positive; 0 where it is not among the first `k`."""
    _, rel = _ordered(scores, gains, k)
    if not (_ideal(gains, ideal_gains) > 0.0).any():
        return math.nan
    hits = np.flatnonzero(rel > 0.0)
    return 1.0 / (1.0 + float(hits[0])) if len(hits) else 0.0


def average_precision(scores: FloatArray, gains: FloatArray, *, k: int | None = None, ideal_gains: FloatArray | None = None) -> float:
    """Mean of the precision at each positive's rank, over all positives; 0 for those not among the first `k`."""
    _, rel = _ordered(scores, gains, k)
    positives = np.count_nonzero(_ideal(gains, ideal_gains) > 0.0)
    hits = np.flatnonzero(rel > 0.0)
    return float((np.arange(1, len(hits) + 1) / (hits + 1)).sum()) / positives if positives else math.nan


def group_share_at_k(scores: FloatArray, groups: NDArray[Any], *, group: int, k: int | None = None) -> float:
    """Share of the first `k` places that the items of `group` hold; NaN for an empty list."""
    _, codes = _ordered(scores, groups, k)
    return float((codes == group).mean()) if len(codes) else math.nan


def roc_auc(scores: FloatArray, labels: NDArray[Any]) -> float:
    """Probability that a positive scores above a negative, ties counting one half; NaN where either is absent. O(n log n)."""
    s, y = np.asarray(scores, np.float64), np.asarray(labels) > 0
    _same_length("labels", s, y)
    positives = int(y.sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        return math.nan
    _, place, times = np.unique(s, return_inverse=True, return_counts=True)
    rank = np.cumsum(times) - (times - 1) / 2.0  # mean 1-based rank of each distinct score
    return float(rank[place][y].sum() - positives * (positives + 1) / 2.0) / (positives * negatives)


def log_loss(probabilities: FloatArray, labels: NDArray[Any]) -> float:
    """Mean of -ln of the probability given to what happened, in nats; probabilities are clipped to [1e-15, 1 - 1e-15]."""
    p, y = _probabilities(probabilities, labels)
    p = np.clip(p, _P_MIN, 1.0 - _P_MIN)
    return float(-np.where(y, np.log(p), np.log1p(-p)).mean())


def normalized_entropy(probabilities: FloatArray, labels: NDArray[Any]) -> float:
    """Log loss over that of always saying the base rate: below 1 is better than knowing only the rate (He et al. 2014, section 3).

    NaN where all labels are equal: the base rate is then never wrong.
    """
    _, y = _probabilities(probabilities, labels)
    rate = float(y.mean())
    if rate in (0.0, 1.0):
        return math.nan
    return log_loss(probabilities, labels) / -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))


def expected_calibration_error(probabilities: FloatArray, labels: NDArray[Any], *, bins: int = 10) -> float:
    """Mean |mean probability - rate| over bins of (nearly) equal mass, weighted by their size.

    Equal probabilities share a bin, so the value does not depend on the order of the input; there may then be fewer bins.
    """
    p, y = _probabilities(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins: must be at least 1, got {bins}")
    by_p = np.argsort(p, kind="stable")
    p, y = p[by_p], y[by_p]
    cuts = np.linspace(0, len(p), bins, endpoint=False).astype(np.int64)
    starts = np.unique(np.searchsorted(p, p[cuts], side="left"))
    gaps = np.add.reduceat(p - y, starts)  # per bin: size × (mean probability - rate)
    return float(np.abs(gaps).sum()) / len(p)


def predicted_over_actual(probabilities: FloatArray, labels: NDArray[Any]) -> float:
    """Mean probability over the rate: 1 is calibrated on the whole; infinite where nothing happened."""
    p, y = _probabilities(probabilities, labels)
    return float(p.sum()) / float(y.sum()) if y.any() else math.inf


class Interval(NamedTuple):
    """A mean and its bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(values: FloatArray, seed: int, *, n: int = 1000, level: float = 0.95) -> Interval:
    """Mean of per-list values with its percentile bootstrap interval: lists are drawn again with replacement (Efron 1979).

    Args:
        values: (m,) one value per list; NaN lists are left out.
        seed: of the draws, so that a report can be repeated.
        n: number of draws.
        level: coverage, within (0, 1).

    Returns:
        All NaN where no list has a value.
    """
    if n < 1:
        raise ValueError(f"n: must be at least 1, got {n}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: must be within (0, 1), got {level}")
    v = np.asarray(values, np.float64)
    v = v[~np.isnan(v)]
    if not len(v):
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    means = [v[rng.integers(0, len(v), len(v))].mean() for _ in range(n)]  # one draw at a time: n × m would not fit in memory
    low, high = np.quantile(means, ((1.0 - level) / 2.0, (1.0 + level) / 2.0))
    return Interval(float(v.mean()), float(low), float(high))


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
    _same_length("theirs", a, b)
    return bootstrap_interval(a - b, seed, n=n, level=level)


def _ordered(scores: FloatArray, values: NDArray[Any], k: int | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The first `k` places and what stands there."""
    s, v = np.asarray(scores, np.float64), np.asarray(values)
    _same_length("gains", s, v)
    if np.isnan(s).any():
        raise ValueError("scores: must not hold NaN")
    if k is not None and k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    order = rank_by_score(s, k)
    return order, v[order]


def _ideal(gains: FloatArray, ideal_gains: FloatArray | None) -> FloatArray:
    return np.asarray(gains if ideal_gains is None else ideal_gains, np.float64)


def _probabilities(probabilities: FloatArray, labels: NDArray[Any]) -> tuple[FloatArray, NDArray[np.bool_]]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels) > 0
    _same_length("labels", p, y)
    if not len(p) or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("probabilities: need at least one, all within [0, 1]")
    return p, y


def _same_length(name: str, a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"{name}: need one per score, got shape {b.shape} for {a.shape}")
