"""Fusing several rankings of one list into one order: rank and score fusions that need no training and no calibration.

What they give orders a list and means nothing else: there is no probability in it, which ads need and floors by utility weigh, so the
gateway blends calibrated log-odds instead (`ranking.blend`). These are its yardsticks offline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ranking.types import FloatArray


def ranks(scores: FloatArray) -> FloatArray:
    """(m, n) rank of each item in each of m rankings, best 1; ties in input order, NaN where it has no score."""
    order = np.lexsort((-scores, np.isnan(scores)), axis=1)  # what has no score comes after -inf; stable
    out = np.empty(scores.shape, np.float64)
    np.put_along_axis(out, order, np.arange(1.0, scores.shape[1] + 1)[None, :].repeat(len(scores), axis=0), axis=1)
    return np.where(np.isnan(scores), np.nan, out)


def rrf(scores: FloatArray, *, k: float = 60.0) -> FloatArray:
    """Reciprocal rank fusion Σ 1 / (k + rank) over the rankings that have the item (Cormack, Clarke, Buettcher 2009).

    Args:
        scores: (m, n) scores of n items in m rankings, NaN where a ranking lacks the item.
        k: how little the first places stand out.

    Returns:
        (n,) fused scores; 0 for an item no ranking has.
    """
    fused: FloatArray = np.nansum(1.0 / (k + ranks(scores)), axis=0)
    return fused


def isr(scores: FloatArray) -> FloatArray:
    """Inverse square rank: (rankings that have the item) · Σ 1 / rank² (Mourão, Martins, Magalhães 2014).

    Args:
        scores: (m, n), NaN where a ranking lacks the item.

    Returns:
        (n,) fused scores.
    """
    fused: FloatArray = _having(scores) * np.nansum(1.0 / ranks(scores) ** 2, axis=0)
    return fused


def combsum(scores: FloatArray) -> FloatArray:
    """Σ of the scores (Fox and Shaw 1994); the rankings' scores must be of one scale, see `scaled`.

    Args:
        scores: (m, n), NaN where a ranking lacks the item.

    Returns:
        (n,) fused scores.

    Raises:
        ValueError: a score is infinite.
    """
    _finite(scores)
    fused: FloatArray = np.nansum(scores, axis=0)
    return fused


def combmnz(scores: FloatArray) -> FloatArray:
    """(rankings that have the item) · Σ of the scores (Fox and Shaw 1994); of one scale, and ≥ 0.

    Args:
        scores: (m, n), NaN where a ranking lacks the item.

    Returns:
        (n,) fused scores.

    Raises:
        ValueError: a score is infinite.
    """
    return _having(scores) * combsum(scores)


def scaled(scores: FloatArray) -> FloatArray:
    """(m, n) each ranking's scores from 0 (its worst) to 1 (its best); 0 where all are equal, NaN where the item is absent.

    Raises:
        ValueError: a score is infinite: every other score would stand at 0 beside it. The rank fusions take any.
    """
    _finite(scores)
    out = np.full(scores.shape, np.nan)
    for row, fused in zip(scores, out, strict=True):
        there = ~np.isnan(row)
        if there.any():
            low, high = row[there].min(), row[there].max()
            fused[there] = (row[there] - low) / (high - low) if high > low else 0.0
    return out


def _finite(scores: FloatArray) -> None:
    infinite = np.argwhere(np.isinf(scores))
    if len(infinite):
        ranking, item = infinite[0]
        raise ValueError(f"scores: must be finite, or NaN where there is none; ranking {ranking} gives item {item} {scores[ranking, item]}")


def _having(scores: FloatArray) -> FloatArray:
    count: FloatArray = (~np.isnan(scores)).sum(axis=0).astype(np.float64)
    return count


FUSIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "rrf": rrf,
    "isr": isr,
    "combsum": lambda scores: combsum(scaled(scores)),
    "combmnz": lambda scores: combmnz(scaled(scores)),
}
"""By name, on scores of any scale."""
