"""What the metrics ask of the arrays they are given, each complaint naming the argument."""

from __future__ import annotations

import math
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


def known(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The values as an array. One that is missing is nobody's to guess: compared with anything it would read as a negative.

    Raises:
        ValueError: naming `name`, at NaN or None.
    """
    v = np.asarray(values)
    if v.dtype.kind == "O":
        missing = any(x is None or (isinstance(x, (float, np.floating)) and math.isnan(x)) for x in v.ravel())
    else:
        missing = v.dtype.kind in "fc" and bool(np.isnan(v).any())
    if missing:
        raise ValueError(f"{name}: must not hold NaN, a missing value is no negative")
    return v


def are_positive(name: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are above 0.

    Raises:
        ValueError: naming `name`, where a value is missing.
    """
    above: NDArray[np.bool_] = known(name, values) > 0
    return above


def as_weights(name: str, weights: FloatArray) -> FloatArray:
    """Weights, finite and not negative.

    Raises:
        ValueError: naming `name`.
    """
    w = np.asarray(weights, np.float64)
    if not (np.isfinite(w) & (w >= 0.0)).all():
        raise ValueError(f"{name}: must be finite and not negative")
    return w


def group_codes(shown: NDArray[Any], groups: int) -> NDArray[Any]:
    """(k,) codes of groups that each have a share.

    Raises:
        ValueError: naming what is shown.
    """
    codes = known("shown", shown)
    if len(codes) and (codes.min() < 0 or codes.max() >= groups):
        raise ValueError(f"shown: groups must be codes in [0, {groups}), one per share, got {codes.min()} to {codes.max()}")
    return codes


def positive_k(k: int | None) -> None:
    """A cut-off is at least 1, or none.

    Raises:
        ValueError: naming k.
    """
    if k is not None and k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")


def ordered(scores: FloatArray, values: NDArray[Any], k: int | None, *, name: str = "gains") -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The first `k` places by score, ties in input order, and what stands there; `name` is what the caller calls the values."""
    s, v = np.asarray(scores, np.float64), known(name, values)
    same_length(name, s, v)
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
    """Both (n,), n ≥ 1, all probabilities within [0, 1], no label missing.

    Raises:
        ValueError: naming the argument.
    """
    p, y = np.asarray(probabilities, np.float64), are_positive("labels", labels)
    same_length("labels", p, y)
    if not len(p) or not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("probabilities: need at least one, all within [0, 1]")
    return p, y
