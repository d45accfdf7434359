"""What the metrics ask of the arrays they are given, each complaint naming the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.floors import rank_by_score
from ranking.types import FloatArray


def same_length(name: str, a: NDArray[Any], b: NDArray[Any]) -> None:
    """Both (n,).

    Raises:
        ValueError: naming `name`.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"{name}: need one per score, got shape {b.shape} for {a.shape}")


def positive_k(k: int | None) -> None:
    """A cut-off is at least 1, or none.

    Raises:
        ValueError: naming k.
    """
    if k is not None and k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")


def ordered(scores: FloatArray, values: NDArray[Any], k: int | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The first `k` places by score, ties in input order, and what stands there."""
    s, v = np.asarray(scores, np.float64), np.asarray(values)
    same_length("gains", s, v)
    no_nan(s)
    positive_k(k)
    order = rank_by_score(s, k)
    return order, v[order]


def no_nan(scores: FloatArray) -> None:
    """A score that is no number has no place.

    Raises:
        ValueError: naming scores.
    """
    if np.isnan(scores).any():
        raise ValueError("scores: must not hold NaN")


def as_probabilities(probabilities: FloatArray, labels: NDArray[Any]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Both (n,), n ≥ 1, all probabilities within [0, 1].

    Raises:
        ValueError: naming the argument.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels) > 0
    same_length("labels", p, y)
    if not len(p) or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("probabilities: need at least one, all within [0, 1]")
    return p, y
