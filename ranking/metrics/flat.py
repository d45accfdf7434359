"""The metrics of `lists` for many lists at once, in the flat layout: rows of list i are `offsets[i]` … `offsets[i + 1]`.

Each returns (L,), NaN for a list without any positive, and equals the metric of one list. Only the choice of the first `k` goes list by
list; all else is arithmetic on an (L, k) table. That choice can be made once, with `top_of_lists` for the largest k, and handed to
every metric as `top`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_by_score
from ranking.metrics.arrays import known, no_nan, positive_k, same_length
from ranking.metrics.lists import Gain
from ranking.types import FloatArray, IntArray

Offsets = NDArray[np.int64]


def top_of_lists(scores: FloatArray, offsets: Offsets, k: int) -> IntArray:
    """(L, k) rows that hold the first `k` places of each list, best first, ties in input order; -1 where a list is shorter.

    Raises:
        ValueError: naming the argument that is wrong. O(N + L k log k).
    """
    positive_k(k)
    s = np.asarray(scores, np.float64)
    no_nan(s)
    if offsets[0] != 0 or offsets[-1] != len(s):
        raise ValueError(f"offsets: must run from 0 to the {len(s)} scores, got {offsets[0]} to {offsets[-1]}")
    top = np.full((len(offsets) - 1, k), -1, np.int64)
    bounds = offsets.tolist()
    for i in range(len(top)):
        order = rank_by_score(s[bounds[i] : bounds[i + 1]], k)
        top[i, : len(order)] = bounds[i] + order
    return top


def ndcg_of_lists(
    scores: FloatArray,
    gains: FloatArray,
    offsets: Offsets,
    *,
    k: int,
    gain: Gain = "linear",
    ideal: IntArray | None = None,
    top: IntArray | None = None,
) -> FloatArray:
    """NDCG@k of every list.

    Args:
        scores: (N,).
        gains: (N,) relevance, not negative.
        offsets: (L + 1,).
        k: places that count.
        gain: as in `ndcg_at_k`.
        ideal: (L,) how many positives there were before retrieval cut the lists, for gains of 0 and 1; default: `gains` are all there is.
        top: `top_of_lists(scores, offsets, k')` with k' ≥ k, where it is known already.
    """
    rel = _shown(scores, gains, offsets, k, top)
    counted = None if ideal is None else (np.arange(k) < known("ideal", ideal)[:, None]).astype(np.float64)
    best = _shown(gains, gains, offsets, k, None) if counted is None else counted
    if gain == "exponential":
        rel, best = np.exp2(rel) - 1.0, np.exp2(best) - 1.0
    weights = discounts(k)
    return _ratio(rel @ weights, best @ weights)


def recall_of_lists(
    scores: FloatArray, gains: FloatArray, offsets: Offsets, *, k: int, ideal: IntArray | None = None, top: IntArray | None = None
) -> FloatArray:
    """Share of every list's positives among its first `k`; arguments as in `ndcg_of_lists`."""
    hits = _shown(scores, gains, offsets, k, top) > 0.0
    return _ratio(hits.sum(axis=1), _positives(gains, offsets, ideal))


def precision_of_lists(
    scores: FloatArray, gains: FloatArray, offsets: Offsets, *, k: int, ideal: IntArray | None = None, top: IntArray | None = None
) -> FloatArray:
    """Share of every list's first `k` places that positives hold; arguments as in `ndcg_of_lists`."""
    hits = _shown(scores, gains, offsets, k, top) > 0.0
    return np.where(_positives(gains, offsets, ideal) > 0, hits.sum(axis=1) / k, np.nan)


def reciprocal_rank_of_lists(
    scores: FloatArray, gains: FloatArray, offsets: Offsets, *, k: int, ideal: IntArray | None = None, top: IntArray | None = None
) -> FloatArray:
    """1 / rank of every list's first positive, 0 where it is not among the first `k`; arguments as in `ndcg_of_lists`."""
    hits = _shown(scores, gains, offsets, k, top) > 0.0
    first = np.where(hits.any(axis=1), 1.0 / (1.0 + hits.argmax(axis=1)), 0.0)
    return np.where(_positives(gains, offsets, ideal) > 0, first, np.nan)


def average_precision_of_lists(
    scores: FloatArray, gains: FloatArray, offsets: Offsets, *, k: int, ideal: IntArray | None = None, top: IntArray | None = None
) -> FloatArray:
    """Average precision of every list, positives behind the first `k` counting 0; arguments as in `ndcg_of_lists`."""
    hits = _shown(scores, gains, offsets, k, top) > 0.0
    precision = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    return _ratio((precision * hits).sum(axis=1), _positives(gains, offsets, ideal))


def share_of_lists(scores: FloatArray, member: NDArray[np.bool_], offsets: Offsets, *, k: int, top: IntArray | None = None) -> FloatArray:
    """Share of every list's first `k` places that the rows marked in `member`, (N,), hold; NaN for an empty list."""
    places = np.minimum(np.diff(offsets), k)
    return _ratio(_shown(scores, member, offsets, k, top, name="member").sum(axis=1), places)


def _shown(scores: FloatArray, values: NDArray[Any], offsets: Offsets, k: int, top: IntArray | None, *, name: str = "gains") -> FloatArray:
    """(L, k) values of what stands at each place, 0 at empty ones."""
    s, v = np.asarray(scores, np.float64), np.asarray(known(name, values), np.float64)
    same_length(name, s, v)
    if top is None:
        top = top_of_lists(s, offsets, k)
    elif top.shape[0] != len(offsets) - 1 or top.shape[1] < k:
        raise ValueError(f"top: need ({len(offsets) - 1}, at least {k}), got {top.shape}")
    first = top[:, :k]
    return np.where(first >= 0, np.append(v, 0.0)[first], 0.0)


def _positives(gains: FloatArray, offsets: Offsets, ideal: IntArray | None) -> IntArray:
    if ideal is not None:
        return np.asarray(known("ideal", ideal), np.int64)
    before = np.concatenate([[0], np.cumsum(np.asarray(gains) > 0.0)])
    return np.diff(before[offsets])


def _ratio(over: NDArray[Any], under: NDArray[Any]) -> FloatArray:
    out: FloatArray = np.divide(over, under, out=np.full(len(under), np.nan), where=np.asarray(under) > 0)
    return out
