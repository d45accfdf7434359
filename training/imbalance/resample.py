"""Resampling of the training fold: one signature for every method, and the prior shift each one causes.

Only ever applied to training rows, be they features or embeddings. A method changes the share of positives, so it returns by how
much the log-odds must be moved back (`offset`). Where only random rows were repeated, dropped or weighed that is the exact
correction; where rows were made up or chosen by their place it is not (`exact`), which is why a calibrator fitted on untouched
validation lists always follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.imbalance import samplers
from training.imbalance.columns import Columns
from training.imbalance.samplers import Method, Plan, Rows


@dataclass(frozen=True, slots=True)
class Resampled:
    """Rows to train on.

    Attributes:
        features: (n', d) float32.
        labels: (n',) int8.
        weights: (n',) float32 row weights.
        offset: add this to the trained model's log-odds to undo the change of the positives' share.
        exact: whether `offset` restores true probabilities by itself.
        source: (n',) int64 index of the real row, -1 for a row that was made up.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]
    offset: float
    exact: bool
    source: NDArray[np.int64]


_EXACT: dict[str, Method] = {
    "class_weight": samplers.class_weight,
    "random_over": samplers.random_over,
    "random_under": samplers.random_under,
    "negatives": samplers.negatives,
}
_NEIGHBOURHOOD: dict[str, Method] = {
    "smote": samplers.smote,
    "adasyn": samplers.adasyn,
    "borderline_smote": samplers.borderline_smote,
    "cluster_centroids": samplers.cluster_centroids,
    "tomek": samplers.tomek,
    "smote_enn": samplers.smote_enn,
    "smote_tomek": samplers.smote_tomek,
}
_GENERATORS: dict[str, Method] = {"gan": samplers.gan, "wgan_gp": samplers.wgan_gp}
_METHODS: dict[str, Method] = _EXACT | _NEIGHBOURHOOD | _GENERATORS

RESAMPLERS: tuple[str, ...] = ("none", *_METHODS)
"""The names a search may choose from."""
QUICK: tuple[str, ...] = ("none", *_EXACT, "smote")
"""Those that take seconds on hundreds of thousands of rows: what a search tries unless told otherwise. The generators' time
depends on their steps; the others look for neighbours or clusters among all rows, which takes minutes there."""
UNMOVED: tuple[str, ...] = ("none", "class_weight")
"""Those that give every row once, whatever the strength."""
SETS_SHARE: tuple[str, ...] = tuple(name for name in _METHODS if name not in ("tomek", "smote_enn", "smote_tomek"))
"""Those that bring the share of positives to the strength asked for; the cleaning methods end where their neighbourhoods say."""


def resample(
    name: str,
    features: NDArray[np.float32],
    labels: NDArray[np.int8],
    *,
    strength: float,
    seed: int,
    columns: Columns | None = None,
    options: Mapping[str, Any] | None = None,
) -> Resampled:
    """Rebalance training rows; the arrays given are never changed.

    Args:
        name: one of `RESAMPLERS`.
        features: (n, d) rows of the training fold: features or embeddings.
        labels: (n,) 0 or 1, both present.
        strength: positives per negative after resampling, in (0, 1]. Ignored by `none`; where the data already have
            that share, rows are left as they are, and nothing is added where less than half a positive is missing.
        seed: for the method's randomness.
        columns: which columns are categorical or integer; default: all continuous.
        options: keyword arguments of `training.imbalance.gan.fit_generator`, for the generators; its loss and seed follow from the
            name and `seed`.

    Raises:
        ValueError: unknown name or option, strength outside (0, 1], a class is absent before or after, too few positive rows for the
            method, or values that have no distance.
    """
    if name not in RESAMPLERS:
        raise ValueError(f"resampler: {name!r} is not known; known: {', '.join(RESAMPLERS)}")
    if not 0.0 < strength <= 1.0:
        raise ValueError(f"strength: must be in (0, 1], got {strength}")
    if features.ndim != 2 or len(features) != len(labels):
        raise ValueError(f"features: need (n, d) with one row per label, got {features.shape} and {len(labels)} labels")
    _known_options(name, options or {})
    present = np.unique(labels)
    if not np.isin(present, (0, 1)).all():
        raise ValueError(f"labels: must be 0 or 1, got {present[~np.isin(present, (0, 1))][0]}")
    if len(present) < 2:
        raise ValueError(f"labels: both classes must be present, got {f'only class {present[0]}' if len(present) else 'no row'}")
    before = _odds(labels, np.ones(len(labels), np.float32))
    if name == "none" or before >= strength:
        return Resampled(features, labels, np.ones(len(labels), np.float32), offset=0.0, exact=True, source=np.arange(len(labels)))
    rows = Rows(np.asarray(features, np.float32), np.asarray(labels, np.int8), strength, seed, columns or Columns(), dict(options or {}))
    return _carry_out(name, _METHODS[name](rows), rows, before)


def _known_options(name: str, options: Mapping[str, Any]) -> None:
    known: tuple[str, ...] = ()
    if options and name in _GENERATORS:
        from training.imbalance.gan import OPTIONS

        known = OPTIONS
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ValueError(f"options: {name} takes {', '.join(known) or 'none'}, got {', '.join(unknown)}")


def _carry_out(name: str, plan: Plan, rows: Rows, before: float) -> Resampled:
    kept, made = len(plan.kept), len(plan.made)
    labels = np.concatenate([rows.labels[plan.kept], np.full(made, plan.label, np.int8)])
    weights = np.ones(kept + made, np.float32)
    weights[kept:] = plan.made_weight
    if plan.weights is not None:
        weights[:kept] = plan.weights
    dropped = {0, 1} - {int(c) for c in np.unique(labels)}
    if dropped:
        raise ValueError(f"{name}: cleaning dropped every row of class {dropped.pop()}; its neighbourhoods say nothing on these rows")
    after = _odds(labels, weights)
    untouched = not made and plan.weights is None and np.array_equal(plan.kept, np.arange(len(rows.labels)))
    return Resampled(
        np.concatenate([rows.features[plan.kept], plan.made]),
        labels,
        weights,
        float(np.log(before / after)) if plan.offset is None else plan.offset,
        name in _EXACT or untouched,
        np.concatenate([plan.kept, np.full(made, -1, np.int64)]),
    )


def _odds(labels: NDArray[Any], weights: NDArray[np.float32]) -> float:
    """Weight of positives per weight of negatives."""
    return float(weights[labels == 1].sum(dtype=np.float64) / weights[labels == 0].sum(dtype=np.float64))
