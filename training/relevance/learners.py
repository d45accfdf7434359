"""What learns from judged features: boosted trees, random ones, both at once, and ridge; each a file that runs no code when it is read.

A learner's scores order one list; they are not comparable across lists or learners, which is why `ensemble` standardises them per list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
    """A LightGBM booster.

    Attributes:
        booster: of it.
        standing: it reads every column twice: as it is, and standardised within its list.
    """

    booster: Any
    standing: bool = False

    def scores(self, features: Features, offsets: IntArray) -> FloatArray:
        read = _with_standing(features, offsets) if self.standing else features
        return np.asarray(self.booster.predict(read, raw_score=True, num_threads=1), np.float64)

    def to_text(self) -> str:
        return str(self.booster.model_to_string())

    @classmethod
    def from_text(cls, text: str, *, standing: bool = False) -> Trees:
        """From `to_text`, of a learner that reads the same columns."""
        import lightgbm

        return cls(lightgbm.Booster(model_str=text), standing)


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


def boosted(objective: str, *, standing: bool = False, **changed: Any) -> Learner:
    """Boosted trees by LightGBM's objective: `regression` of gains, `binary` of Exact, `rank_xendcg` or `lambdarank` within lists.

    Args:
        objective: LightGBM's name.
        standing: every column also standardised within its list.
        changed: LightGBM's parameters that are other than here, and `rounds`.
    """

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
        read = _with_standing(features, offsets) if standing else features
        return Trees(lightgbm.train(options, lightgbm.Dataset(read, labels, group=sizes), rounds), standing)

    return learn


_DRAWN: dict[str, Any] = {"extra_trees": True, "learning_rate": 0.02, "rounds": 500}
LEARNERS: Mapping[str, Learner] = {
    # boosted trees whose thresholds are drawn (Geurts et al. 2006): of a few thousand judgments the best ones are mostly noise
    "drawn": boosted("regression", **_DRAWN),
    "drawn_standing": boosted("regression", standing=True, **_DRAWN),
    "regression": boosted("regression"),
    "xendcg": boosted("rank_xendcg"),
    "lambdarank": boosted("lambdarank", num_leaves=7),
    "extra_trees": boosted(
        "regression", boosting="rf", extra_trees=True, num_leaves=255, min_data_in_leaf=4, lambda_l2=0.0, feature_fraction=0.4, rounds=150
    ),
    "ridge": ridge,
}
"""Learners by name."""
READERS: Mapping[str, Callable[[str], Learnt]] = {
    **dict.fromkeys(LEARNERS, Trees.from_text),
    "drawn_standing": partial(Trees.from_text, standing=True),
    "ridge": Linear.from_text,
}
"""What reads each again."""


def _with_standing(features: Features, offsets: IntArray) -> Features:
    """(N, 2 d): the columns, and each in standard deviations from its list's mean."""
    return np.column_stack([features, _standardised(features, offsets).astype(np.float32)])


def _standardised(features: Features, offsets: IntArray) -> FloatArray:
    """(N, d) in standard deviations from the list's mean, unknown values at the mean."""
    return np.concatenate([z_scores(features[a:b].astype(np.float64)) for a, b in pairwise(offsets)])
