"""From scores to classes: offsets of the classes' log-odds that give the best macro-F1 on validation. Knows no model and no text.

Cross-entropy finds probabilities, and with one review in ten neutral the most probable class is seldom that one. Macro-F1 counts each
class alike, so the classes' thresholds are moved for it, on reviews that neither trained the model nor judge it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.metrics import macro_f1
from ranking.types import FloatArray

_COARSE, _FINE, _REACH = 0.2, 0.05, 2.0


def decide(scores: FloatArray, offsets: FloatArray) -> NDArray[np.int64]:
    """(n,) class with the highest score + offset of (n, classes)."""
    chosen: NDArray[np.int64] = np.argmax(scores + offsets, axis=1)
    return chosen


def stable_offsets(scores: FloatArray, classes: NDArray[np.int64], *, draws: int = 20, seed: int = 0) -> FloatArray:
    """(3,) mean of the `best_offsets` of the reviews drawn again with replacement, so often; the last is 0.

    Args:
        scores: (n, 3) log-probabilities or logits.
        classes: (n,) the truth.
        draws: of all reviews.
        seed: of the draws.
    """
    drawn = np.random.default_rng(seed).integers(0, len(classes), (draws, len(classes)))
    found: FloatArray = np.stack([best_offsets(scores[rows], classes[rows]) for rows in drawn]).mean(axis=0)
    return found


def best_offsets(scores: FloatArray, classes: NDArray[np.int64]) -> FloatArray:
    """(3,) offsets, the last 0, with the best macro-F1; of equals those nearest to none. Coarse grid, then a finer one around its best.

    Args:
        scores: (n, 3) log-probabilities or logits.
        classes: (n,) the truth.
    """
    grid = np.arange(-_REACH, _REACH + _COARSE / 2, _COARSE)
    best = _best(scores, classes, np.zeros(2), grid)
    return np.append(_best(scores, classes, best, np.arange(-_COARSE, _COARSE + _FINE / 2, _FINE)), 0.0)


def _best(scores: FloatArray, classes: NDArray[np.int64], centre: FloatArray, steps: FloatArray) -> FloatArray:
    tried: list[FloatArray] = [centre + np.array([a, b]) for a in steps for b in steps]
    values = [(_f1(decide(scores, np.append(one, 0.0)), classes), -float(np.abs(one).sum())) for one in tried]
    return tried[max(range(len(tried)), key=lambda i: values[i])]


def _f1(predicted: NDArray[np.int64], classes: NDArray[np.int64]) -> float:
    return macro_f1(predicted, classes)
