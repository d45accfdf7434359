"""What learns from judged features: boosted and extremely random trees, and ridge; each a file that runs no code when it is read.

A learner's scores order one list; they are not comparable across lists or learners, which is why `ensemble` standardises them per list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray
from training.relevance.pool import z_scores
from training.sources.esci import GAINS

Features = NDArray[np.float32]
_LEVELS = np.array(sorted(GAINS.values()))  # a gain's place among them is its label where lists are compared
_LABEL_GAINS = [round(100 * float(level)) for level in _LEVELS]
_RIDGE = 1000.0  # of about 4,000 rows with standardised columns


class Learnt(Protocol):
    """What a learner makes."""

    def scores(self, features: Features, offsets: IntArray) -> FloatArray:
        """(N,) of (N, d) rows in lists; higher is better within a list."""
        ...

    def to_text(self) -> str:
        """Everything there is to it."""
        ...


Learner = Callable[[Features, FloatArray, IntArray, int], Learnt]
"""`(features (N, d), gains (N,), offsets (L + 1,), seed) -> Learnt`; deterministic by seed."""


@dataclass(frozen=True, slots=True)
class Trees:
    """A LightGBM booster."""

    booster: Any

    def scores(self, features: Features, offsets: IntArray) -> FloatArray:
        return np.asarray(self.booster.predict(features, raw_score=True, num_threads=1), np.float64)

    def to_text(self) -> str:
        return str(self.booster.model_to_string())

    @classmethod
    def from_text(cls, text: str) -> Trees:
        """From `to_text`."""
        import lightgbm

        return cls(lightgbm.Booster(model_str=text))


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights of the columns, each standardised within its list."""

    weights: FloatArray

    def scores(self, features: Features, offsets: IntArray) -> FloatArray:
        return _standardised(features, offsets) @ self.weights

    def to_text(self) -> str:
        return json.dumps([float(w) for w in self.weights])

    @classmethod
    def from_text(cls, text: str) -> Linear:
        """From `to_text`."""
        return cls(np.array(json.loads(text), np.float64))


def ridge(features: Features, gains: FloatArray, offsets: IntArray, seed: int) -> Linear:
    """Least squares of gains less their list's mean on standardised columns (Hoerl and Kennard 1970)."""
    x = _standardised(features, offsets)
    y = np.concatenate([gains[a:b] - gains[a:b].mean() for a, b in pairwise(offsets)])
    return Linear(np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y))


def boosted(objective: str, **changed: Any) -> Learner:
    """Boosted trees by LightGBM's objective: `regression` of gains, `binary` of Exact, `rank_xendcg` or `lambdarank` within lists."""

    def learn(features: Features, gains: FloatArray, offsets: IntArray, seed: int) -> Trees:
        import lightgbm

        options: dict[str, Any] = {
            "objective": objective,
            "learning_rate": 0.03,
            "num_leaves": 15,
            "min_data_in_leaf": 20,
            "feature_fraction": 0.3,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 5.0,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        } | changed
        rounds = options.pop("rounds", 150)
        labels: NDArray[Any] = gains
        if objective == "binary":
            labels = (gains > _LEVELS[-2]).astype(np.int8)
        elif objective in ("rank_xendcg", "lambdarank"):
            labels = np.searchsorted(_LEVELS, gains - 1e-9)
            options |= {"label_gain": _LABEL_GAINS, "lambdarank_truncation_level": 30}
        sizes = np.diff(offsets) if "rank" in objective else None
        return Trees(lightgbm.train(options, lightgbm.Dataset(features, labels, group=sizes), rounds))

    return learn


LEARNERS: Mapping[str, Learner] = {
    "regression": boosted("regression"),
    "xendcg": boosted("rank_xendcg"),
    "lambdarank": boosted("lambdarank", num_leaves=7),
    "extra_trees": boosted(
        "regression", boosting="rf", extra_trees=True, num_leaves=255, min_data_in_leaf=4, lambda_l2=0.0, feature_fraction=0.4, rounds=150
    ),
    "ridge": ridge,
}
"""Learners by name."""
READERS: Mapping[str, Callable[[str], Learnt]] = {name: Linear.from_text if name == "ridge" else Trees.from_text for name in LEARNERS}
"""What reads each again."""


def _standardised(features: Features, offsets: IntArray) -> FloatArray:
    """(N, d) in standard deviations from the list's mean, unknown values at the mean."""
    return np.concatenate([z_scores(features[a:b].astype(np.float64)) for a, b in pairwise(offsets)])
