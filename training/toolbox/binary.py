"""Figures and curves of binary predictions that were made out of fold, with intervals and paired gains. Knows scores, no method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.metrics import interval_of_draws, precision_recall_curve, reliability_curve
from ranking.metrics.probabilities import mass_bins, surprise
from ranking.types import FloatArray
from training.release.evaluate import Row
from training.toolbox.outcome import GAIN

DRAWS = 200
_POINTS = 120  # of a precision-recall curve
_BINS = 10  # of a calibration curve and of its error
_LESS_IS_BETTER = frozenset({"ne", "ece"})
_GAINS = ("auc", "ap", "macro_f1", "balanced_accuracy", "ne")


@dataclass(frozen=True)
class Measured:
    """What is kept of a method's predictions.

    Attributes:
        draws: metric -> (draws + 1,): its value on the rows themselves, then on rows drawn again.
        row: metric -> [value, low, high].
    """

    draws: Mapping[str, FloatArray]
    row: Row


@dataclass(frozen=True)
class Yardstick:
    """The rows that methods are measured on.

    A metric's value is its mean over the folds, as cross-validated figures are published. Intervals are over rows drawn again within
    their fold; they say what other rows of these folds would have shown, not what other training rows would have.

    Attributes:
        labels: (n,) 0 or 1.
        folds: (n,) fold of each row; one model's rows per fold.
        seed: of the draws, the same for every method, so that gains are paired.
        count: draws.
    """

    labels: NDArray[np.int8]
    folds: NDArray[np.int64]
    seed: int = 5
    count: int = DRAWS

    def measure(self, probabilities: FloatArray, named: NDArray[np.bool_] | None = None, *, against: Measured | None = None) -> Measured:
        """Figures of one method.

        Args:
            probabilities: (n,) out of fold.
            named: (n,) whether the row is called positive; default: its probability is at least one half.
            against: of another method on these rows: adds ``*_gain``.
        """
        called = probabilities >= 0.5 if named is None else named
        parts = [
            _figures(probabilities[rows], self.labels[rows], called[rows], weights)
            for rows, weights in zip(self._rows, self._weights, strict=True)
        ]
        draws = {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}
        row = {name: as_row(values) for name, values in draws.items()}
        if against is not None:
            for name in _GAINS:
                sign = -1.0 if name in _LESS_IS_BETTER else 1.0
                row[name + GAIN] = as_row(sign * (draws[name] - against.draws[name]))
        return Measured(draws, row)

    def curves(self, probabilities: FloatArray) -> dict[str, list[list[float]]]:
        """Precision over recall, and actual over predicted, of all rows together."""
        curve = precision_recall_curve(probabilities, self.labels)
        at = np.unique(np.searchsorted(curve.recall, np.linspace(0.01, 1.0, _POINTS)).clip(max=len(curve.recall) - 1))
        bins = reliability_curve(probabilities, self.labels, bins=_BINS)
        return {
            "pr": np.stack([curve.recall[at], curve.precision[at]], axis=1).round(5).tolist(),
            "calibration": np.stack([bins.predicted, bins.observed], axis=1).round(5).tolist(),
        }

    @cached_property
    def _rows(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds)]

    @cached_property
    def _weights(self) -> list[FloatArray]:
        """Per fold (draws + 1, rows): how often each row counts."""
        rng = np.random.default_rng(self.seed)
        return [
            np.concatenate([np.ones((1, len(rows))), rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=self.count)])
            for rows in self._rows
        ]


def as_row(values: FloatArray) -> list[float | None]:
    """[value, low, high] of a value and its draws; what is undefined is None."""
    interval = interval_of_draws(float(values[0]), values[1:])
    return [None if not np.isfinite(x) else round(float(x), 5) for x in interval]


def class_rows(before: NDArray[Any], after: NDArray[Any], weights: NDArray[Any] | None = None) -> list[list[float]]:
    """The ``classes`` curve of labels before and after a method, by weight where it weighs."""
    counts = np.bincount(after, weights, minlength=2)
    return [[float(c), float((before == c).sum()), float(np.round(counts[c], 1))] for c in (0, 1)]


def _figures(p: FloatArray, labels: NDArray[Any], called: NDArray[np.bool_], weights: FloatArray) -> dict[str, FloatArray]:
    """Metrics of one fold under (draws, n) weights: `ranking.metrics` for many re-weighings at once, with one sort."""
    y = labels > 0
    order = np.argsort(-p, kind="stable")
    last = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)  # of each run of equal scores
    hits, misses = (np.cumsum(weights[:, order] * kind[order], axis=1)[:, last] for kind in (y, ~y))
    positives, negatives = hits[:, -1], misses[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        steps, passed = np.diff(hits, axis=1, prepend=0.0), np.diff(misses, axis=1, prepend=0.0)
        precision = np.nan_to_num(hits / (hits + misses))
        found, spared = (weights @ (called & y)) / positives, (weights @ (~called & ~y)) / negatives
        f1 = _f1(weights, called, y)
        rate, total = positives / (positives + negatives), positives + negatives
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        gaps = np.stack([weights[:, rows] @ (p[rows] - y[rows]) for rows in _bins(p)])
        return {
            "auc": (steps * (negatives[:, None] - misses + passed / 2)).sum(axis=1) / (positives * negatives),
            "ap": (steps * precision).sum(axis=1) / positives,
            "f1": f1,
            "macro_f1": (f1 + _f1(weights, ~called, ~y)) / 2,
            "balanced_accuracy": (found + spared) / 2,
            "g_mean": np.sqrt(found * spared),
            "ne": (weights @ surprise(p, y)) / total / entropy,
            "predicted_over_actual": (weights @ p) / positives,
            "ece": np.abs(gaps).sum(axis=0) / total,
        }


def _f1(weights: FloatArray, called: NDArray[np.bool_], y: NDArray[np.bool_]) -> FloatArray:
    out: FloatArray = 2 * (weights @ (called & y)) / (weights @ called + weights @ y)
    return out


def _bins(p: FloatArray) -> list[NDArray[np.int64]]:
    codes = mass_bins(p, _BINS)
    return [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)]
