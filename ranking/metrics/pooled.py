"""Pooled metrics on many draws of lists at once, `metric(scores, labels, lists, draws)`, for their intervals.

Drawing lists again only re-weighs sums that each list has once and for all, so no row is copied or sorted per draw: a draw costs a row
of a matrix product, not a pass over the data.

All take (N,) scores or probabilities, (N,) labels, (N,) the list of each row and (n, L) draws from `list_draws`, and return (n,): NaN
for a draw on which the metric is undefined. Drawing every list once gives the metric itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.metrics.arrays import are_positive, as_probabilities, no_nan, same_length
from ranking.metrics.probabilities import mass_bins, surprise
from ranking.types import FloatArray, IntArray

_LEVELS = 500  # of the positives' scores that AUC on draws tells apart: at most 1/500 of all pairs counts as ties


def predicted_over_actual_of_draws(probabilities: FloatArray, labels: NDArray[Any], lists: IntArray, draws: FloatArray) -> FloatArray:
    """Sum of probabilities over sum of labels."""
    p, y = as_probabilities(probabilities, labels)
    return _ratio(draws @ _per_list(p, lists, draws), draws @ _per_list(y, lists, draws))


def normalized_entropy_of_draws(probabilities: FloatArray, labels: NDArray[Any], lists: IntArray, draws: FloatArray) -> FloatArray:
    """Log loss over the entropy of the draw's own base rate."""
    p, y = as_probabilities(probabilities, labels)
    rows = draws @ _per_list(np.ones(len(p)), lists, draws)
    rate = _ratio(draws @ _per_list(y, lists, draws), rows)
    rate[(rate <= 0.0) | (rate >= 1.0)] = np.nan
    entropy = -(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))
    return _ratio(draws @ _per_list(surprise(p, y), lists, draws), rows) / entropy


def calibration_error_of_draws(
    probabilities: FloatArray, labels: NDArray[Any], lists: IntArray, draws: FloatArray, *, bins: int = 10
) -> FloatArray:
    """Expected calibration error in the bins of the whole: they are not cut anew for every draw."""
    p, y = as_probabilities(probabilities, labels)
    codes = mass_bins(p, bins)
    gaps = _table(lists, codes, int(codes.max()) + 1, draws.shape[1], p - y)
    return _ratio(np.abs(draws @ gaps).sum(axis=1), draws @ _per_list(np.ones(len(p)), lists, draws))


def roc_auc_of_draws(scores: FloatArray, labels: NDArray[Any], lists: IntArray, draws: FloatArray) -> FloatArray:
    """Probability that a positive scores above a negative; exact up to 500 distinct scores among positives.

    With more, scores between two neighbouring ones of 500 levels count as tied: an error of less than .001, in practice far less.
    """
    s, y = np.asarray(scores, np.float64), are_positive("labels", labels)
    same_length("labels", s, y)
    no_nan(s)
    levels = np.unique(s[y])
    if len(levels) > _LEVELS:
        levels = levels[np.linspace(0, len(levels) - 1, _LEVELS).astype(np.int64)]
    codes = np.searchsorted(levels, s, side="left") + np.searchsorted(levels, s, side="right")  # odd: at a level; even: between two
    width, count = 2 * len(levels) + 1, draws.shape[1]
    positives = draws @ _table(lists[y], codes[y], width, count, None)  # (n, width)
    negatives = draws @ _table(lists[~y], codes[~y], width, count, None)
    below = np.cumsum(negatives, axis=1) - negatives / 2.0
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def _per_list(values: NDArray[Any], lists: IntArray, draws: FloatArray) -> FloatArray:
    """(L,) sums."""
    return np.bincount(lists, values, draws.shape[1]).astype(np.float64)


def _table(lists: IntArray, codes: IntArray, width: int, count: int, weights: FloatArray | None) -> FloatArray:
    """(L, width) sums of the weights, by list and code."""
    flat = np.bincount(lists * width + codes, weights, count * width)
    return flat.reshape(count, width).astype(np.float64)


def _ratio(over: FloatArray, under: FloatArray) -> FloatArray:
    out: FloatArray = np.divide(over, under, out=np.full(len(under), np.nan), where=under > 0.0)
    return out
