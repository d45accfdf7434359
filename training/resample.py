"""Resampling of the training fold: one signature for every method, and the prior shift each one causes.

Only ever applied to training rows. A method changes the share of positives, so it returns by how much the log-odds must be
moved back (`offset`): exact for random sampling, approximate for synthetic rows, which is why a calibrator fitted on
untouched validation lists always follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Resampled:
    """Rows to train on.

    Attributes:
        features: (n', d) float32.
        labels: (n',) int8.
        weights: (n',) float32 row weights.
        offset: add this to the trained model's log-odds to undo the change of the positives' share.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]
    offset: float


def _imblearn(name: str, **options: Any) -> Callable[[float, int], Any]:
    """A sampler of imbalanced-learn, made when used: the import takes a second."""

    def make(strength: float, seed: int) -> Any:
        import imblearn.over_sampling
        import imblearn.under_sampling

        module = imblearn.over_sampling if hasattr(imblearn.over_sampling, name) else imblearn.under_sampling
        return getattr(module, name)(sampling_strategy=strength, random_state=seed, **options)

    return make


_SAMPLERS: dict[str, Callable[[float, int], Any]] = {
    "random_over": _imblearn("RandomOverSampler"),
    "random_under": _imblearn("RandomUnderSampler"),
    "smote": _imblearn("SMOTE"),
    "adasyn": _imblearn("ADASYN"),
}
RESAMPLERS: tuple[str, ...] = ("none", "class_weight", *_SAMPLERS)
"""The names a search may choose from."""


def resample(name: str, features: NDArray[np.float32], labels: NDArray[np.int8], *, strength: float, seed: int) -> Resampled:
    """Rebalance training rows.

    Args:
        name: one of `RESAMPLERS`.
        features: (n, d) rows of the training fold.
        labels: (n,) 0 or 1, both present.
        strength: positives per negative after resampling, in (0, 1]. Ignored by `none`; where the data already have
            that share, rows are left as they are.
        seed: for the method's randomness.

    Raises:
        ValueError: unknown name, strength outside (0, 1], or a class is absent.
    """
    if name not in RESAMPLERS:
        raise ValueError(f"resampler: {name!r} is not known; known: {', '.join(RESAMPLERS)}")
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength: must be in (0, 1], got {strength}")
    before = _odds(labels)
    unit = np.ones(len(labels), np.float32)
    if name == "none" or before >= strength:
        return Resampled(features, labels, unit, 0.0)
    if name == "class_weight":
        weights = np.where(labels == 1, np.float32(strength / before), np.float32(1.0))
        return Resampled(features, labels, weights, float(np.log(before / strength)))
    x, y = _SAMPLERS[name](strength, seed).fit_resample(features, labels)
    offset = float(np.log(before / _odds(y)))
    return Resampled(np.asarray(x, np.float32), np.asarray(y, np.int8), np.ones(len(y), np.float32), offset)


def _odds(labels: NDArray[Any]) -> float:
    positives = int((labels == 1).sum())
    if positives == 0 or positives == len(labels):
        raise ValueError("labels: both classes must be present")
    return positives / (len(labels) - positives)
