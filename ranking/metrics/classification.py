"""Metrics of decisions, `metric(predicted, actual)`, and of the scores behind them, `metric(scores, labels)`; (n,) each, rows pooled.

A figure that the data cannot give (no positive to find, one class only) is NaN; one that the classifier did not earn (it named nothing)
is 0. A decision or label that is missing is refused.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.metrics.arrays import are_positive, known, no_nan, same_length
from ranking.types import FloatArray


def accuracy(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Share of rows whose class was named right. With one positive in a hundred, naming none has .99."""
    predicted, actual = _classes(predicted, actual)
    return float((predicted == actual).mean()) if len(actual) else math.nan


def precision(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Share of the rows named positive (above 0) that are; 0 where none is named."""
    hits, false_alarms, _ = _binary(predicted, actual)
    return hits / (hits + false_alarms) if hits + false_alarms else 0.0


def recall(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Share of the positives (above 0) that are named."""
    hits, _, missed = _binary(predicted, actual)
    return hits / (hits + missed) if hits + missed else math.nan


def f1(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); NaN without a positive on either side."""
    hits, false_alarms, missed = _binary(predicted, actual)
    return 2 * hits / (2 * hits + false_alarms + missed) if hits + false_alarms + missed else math.nan


def macro_f1(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Mean F1 of the classes that occur on either side, each against all others: a rare class counts like a frequent one."""
    predicted, actual = _classes(predicted, actual)
    each = [f1(predicted == c, actual == c) for c in np.union1d(predicted, actual)]
    return float(np.mean(each)) if each else math.nan


def balanced_accuracy(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Mean recall of the classes that occur: 1 / classes for a constant answer, however rare a class is."""
    recalls = _recalls(predicted, actual)
    return float(recalls.mean()) if len(recalls) else math.nan


def g_mean(predicted: NDArray[Any], actual: NDArray[Any]) -> float:
    """Geometric mean of the recalls of the classes that occur (Kubat and Matwin 1997): 0 as soon as one class is never found."""
    recalls = _recalls(predicted, actual)
    return float(np.prod(recalls) ** (1.0 / len(recalls))) if len(recalls) else math.nan


def roc_auc(scores: FloatArray, labels: NDArray[Any]) -> float:
    """Probability that a positive scores above a negative, ties counting one half; NaN where either is absent. O(n log n).

    Raises:
        ValueError: a score or a label is NaN.
    """
    s, y = np.asarray(scores, np.float64), are_positive("labels", labels)
    same_length("labels", s, y)
    no_nan(s)
    if y.all() or not y.any():
        return math.nan
    negatives = np.sort(s[~y])
    below = np.searchsorted(negatives, s[y], side="left") + np.searchsorted(negatives, s[y], side="right")  # twice, ties once
    return float(below.mean()) / (2.0 * len(negatives))


class PrecisionRecall(NamedTuple):
    """Points of a precision-recall curve, one per distinct score, from the highest threshold down; each (m,)."""

    precision: FloatArray
    recall: FloatArray
    threshold: FloatArray  # rows that score at least this are named


def precision_recall_curve(scores: FloatArray, labels: NDArray[Any]) -> PrecisionRecall:
    """Precision and recall at every threshold that changes what is named. Equal scores are named together. O(n log n).

    Raises:
        ValueError: no row, or a score or a label is NaN.
    """
    s, y = np.asarray(scores, np.float64), are_positive("labels", labels)
    same_length("labels", s, y)
    no_nan(s)
    if not len(s):
        raise ValueError("scores: need at least one")
    by_score = np.argsort(-s, kind="stable")
    s, y = s[by_score], y[by_score]
    last = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)  # of each run of equal scores
    hits = np.cumsum(y)[last]
    found = hits / hits[-1] if hits[-1] else np.full(len(hits), np.nan)
    return PrecisionRecall(hits / (last + 1), found, s[last])


def pooled_average_precision(scores: FloatArray, labels: NDArray[Any]) -> float:
    """Σ (recall step) · precision along the curve, no interpolation; NaN without a positive.

    Rows of all lists together, ties named together: not the mean over lists, which is `average_precision`.
    """
    if not are_positive("labels", labels).any():
        return math.nan
    curve = precision_recall_curve(scores, labels)
    return float(np.diff(curve.recall, prepend=0.0) @ curve.precision)


def _binary(predicted: NDArray[Any], actual: NDArray[Any]) -> tuple[int, int, int]:
    """True positives, false positives, false negatives."""
    p, a = are_positive("predicted", predicted), are_positive("actual", actual)
    same_length("actual", p, a)
    return int((p & a).sum()), int((p & ~a).sum()), int((~p & a).sum())


def _classes(predicted: NDArray[Any], actual: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    p, a = known("predicted", predicted), known("actual", actual)
    same_length("actual", p, a)
    return p, a


def _recalls(predicted: NDArray[Any], actual: NDArray[Any]) -> FloatArray:
    predicted, actual = _classes(predicted, actual)
    classes, codes, sizes = np.unique(actual, return_inverse=True, return_counts=True)
    return np.bincount(codes, predicted == actual, len(classes)) / sizes
