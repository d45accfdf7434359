"""Metrics of probabilities, `metric(probabilities, labels)`: (n,) each, pooled over lists, labels 0 or 1."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.metrics.arrays import as_probabilities
from ranking.types import FloatArray, IntArray

_P_MIN = 1e-15  # probabilities of exactly 0 or 1 would make log loss infinite on a single mistake


def log_loss(probabilities: FloatArray, labels: NDArray[Any]) -> float:
    """Mean of -ln of the probability given to what happened, in nats; probabilities are clipped to [1e-15, 1 - 1e-15]."""
    p, y = as_probabilities(probabilities, labels)
    return float(surprise(p, y).mean())


def surprise(probabilities: FloatArray, labels: NDArray[np.bool_]) -> FloatArray:
    """(n,) what each row adds to the log loss."""
    p = np.clip(probabilities, _P_MIN, 1.0 - _P_MIN)
    return np.where(labels, -np.log(p), -np.log1p(-p))


def normalized_entropy(probabilities: FloatArray, labels: NDArray[Any]) -> float:
    """Log loss over that of always saying the base rate: below 1 is better than knowing only the rate (He et al. 2014, section 3).

    NaN where all labels are equal: the base rate is then never wrong.
    """
    _, y = as_probabilities(probabilities, labels)
    rate = float(y.mean())
    if rate in (0.0, 1.0):
        return math.nan
    return log_loss(probabilities, labels) / -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))


def predicted_over_actual(probabilities: FloatArray, labels: NDArray[Any]) -> float:
    """Mean probability over the rate: 1 is calibrated on the whole; infinite where nothing happened."""
    p, y = as_probabilities(probabilities, labels)
    return float(p.sum()) / float(y.sum()) if y.any() else math.inf


def expected_calibration_error(probabilities: FloatArray, labels: NDArray[Any], *, bins: int = 10) -> float:
    """Mean |mean probability - rate| over bins of (nearly) equal mass, weighted by their size.

    Equal probabilities share a bin, so the value does not depend on the order of the input; there may then be fewer bins.
    """
    p, y = as_probabilities(probabilities, labels)
    gaps = np.bincount(mass_bins(p, bins), p - y)  # per bin: size × (mean probability - rate)
    return float(np.abs(gaps).sum()) / len(p)


class Reliability(NamedTuple):
    """Points of a reliability curve, by rising probability; each (b,)."""

    predicted: FloatArray  # mean probability of the bin
    observed: FloatArray  # share of its rows in which it happened
    rows: IntArray


def reliability_curve(probabilities: FloatArray, labels: NDArray[Any], *, bins: int = 10) -> Reliability:
    """What was promised and what happened, in the bins of `expected_calibration_error`: a calibrated model lies on the diagonal."""
    p, y = as_probabilities(probabilities, labels)
    codes = mass_bins(p, bins)
    rows = np.bincount(codes)
    return Reliability(np.bincount(codes, p) / rows, np.bincount(codes, y) / rows, rows)


def mass_bins(probabilities: FloatArray, bins: int) -> IntArray:
    """(n,) bin of each row, 0 … b - 1 with b ≤ `bins`, of (nearly) equal mass; equal probabilities share one.

    Raises:
        ValueError: `bins` below 1.
    """
    if bins < 1:
        raise ValueError(f"bins: must be at least 1, got {bins}")
    cuts = np.linspace(0, len(probabilities), bins, endpoint=False).astype(np.int64)
    edges = np.unique(np.partition(probabilities, cuts)[cuts])  # each bin's lowest probability
    return np.searchsorted(edges, probabilities, side="right") - 1
