"""Members that let many small models vote: AdaBoost, and imbalanced-learn's ensembles, each of whose voters sees balanced rows.

Their scores order; what probability they mean is the calibrator's business. Unknown values count as the column's median.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import logit
from training.members.contract import Rows
from training.members.forest import Worth, log_ratio, shares, summed, votes
from training.members.scaling import Scale

_EVEN = 1e-4  # a share of votes is kept that far from 0 and 1, where a log-odds would be infinite


@dataclass(frozen=True, slots=True)
class Votes:
    """A fitted classifier and how its votes become a score."""

    scale: Scale
    model: Any
    count: Callable[[Any, NDArray[np.float32]], NDArray[np.float64]]
    trees: Callable[[Any], list[Worth]]
    log_odds: bool = False

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) scores of (n, d) rows."""
        return np.asarray(self.count(self.model, self.scale.fill(features)), np.float64)

    def to_onnx(self, *, offset: float, columns: int) -> bytes:
        """As `training.members.contract.Exportable` says."""
        if columns != len(self.scale.medians):
            raise ValueError(f"columns: trained on {len(self.scale.medians)}, asked for {columns}")
        worth = self.trees(self.model)
        if worth[0].values.shape[1] == 1:
            return summed(worth, self.scale, offset=offset)
        return log_ratio(worth, self.scale, offset=offset, even=_EVEN)


def adaboost(rows: Rows, *, seed: int, threads: int, rounds: int = 50, depth: int = 1, learning_rate: float = 1.0) -> Votes:
    """AdaBoost of shallow trees (Freund and Schapire 1997): each next one looks at what the last got wrong.

    Args:
        rows: training rows.
        seed: of ties between splits.
        threads: changes nothing: each tree waits for the one before.
        rounds: trees.
        depth: of a tree.
        learning_rate: how much each vote is shrunk.
    """
    from sklearn.ensemble import AdaBoostClassifier

    model = AdaBoostClassifier(_tree(depth), n_estimators=rounds, learning_rate=learning_rate, random_state=seed)
    return _fitted(model, rows, _weighed, _weighed_trees, weights=rows.weights)


def rusboost(rows: Rows, *, seed: int, threads: int, rounds: int = 100, depth: int = 8, learning_rate: float = 0.1) -> Votes:
    """AdaBoost in which each tree sees as many negatives as positives, drawn anew (Seiffert et al. 2010).

    Small steps: with rare positives a balanced tree errs on so many negatives that a full step ends the boosting after a few trees.

    Args:
        rows: training rows.
        seed: of the draws.
        threads: changes nothing.
        rounds: trees.
        depth: of a tree.
        learning_rate: how much each vote is shrunk.
    """
    from imblearn.ensemble import RUSBoostClassifier

    model = RUSBoostClassifier(_tree(depth), n_estimators=rounds, learning_rate=learning_rate, random_state=seed)
    return _fitted(model, rows, _weighed, _weighed_trees, weights=rows.weights)


def balanced_bagging(rows: Rows, *, seed: int, threads: int, bags: int = 20, leaf: int = 10) -> Votes:
    """The mean probability of deep trees, each grown on a balanced draw of the rows (Hido and Kashima 2009).

    Args:
        rows: training rows, all of one weight.
        seed: of the draws.
        threads: trees grown at once.
        bags: trees.
        leaf: fewest rows in a leaf.
    """
    from imblearn.ensemble import BalancedBaggingClassifier
    from sklearn.tree import DecisionTreeClassifier

    model = BalancedBaggingClassifier(DecisionTreeClassifier(min_samples_leaf=leaf), n_estimators=bags, n_jobs=threads, random_state=seed)
    return _fitted(model, rows, _share, _share_trees)


def easy_ensemble(rows: Rows, *, seed: int, threads: int, bags: int = 10, rounds: int = 50) -> Votes:
    """AdaBoosts, each on all positives and as many negatives drawn anew (Liu et al. 2009).

    Args:
        rows: training rows, all of one weight.
        seed: of the draws.
        threads: AdaBoosts trained at once.
        bags: AdaBoosts.
        rounds: trees of each.
    """
    from imblearn.ensemble import EasyEnsembleClassifier
    from sklearn.ensemble import AdaBoostClassifier

    model = EasyEnsembleClassifier(bags, AdaBoostClassifier(_tree(1), n_estimators=rounds), n_jobs=threads, random_state=seed)
    return _fitted(model, rows, _decision, _decision_trees)


def _tree(depth: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=depth)


def _fitted(model: Any, rows: Rows, count: Any, trees: Any, *, weights: NDArray[np.float32] | None = None) -> Votes:
    scale = Scale.of(rows.features)
    given = {} if weights is None else {"sample_weight": weights.astype(np.float64)}
    model.fit(scale.fill(rows.features), rows.labels, **given)
    if hasattr(model, "n_jobs"):
        model.n_jobs = 1  # scoring: a pool of processes would be sent the whole model for every few lists
    return Votes(scale, model, count, trees)


def _weighed(model: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Σ α_t h_t(x) with h = ±1 and α = ln((1 − err) / err), twice the half log-odds that boosting's exponential loss fits."""
    return np.asarray(model.decision_function(features) * model.estimator_weights_.sum() / 2)


def _weighed_trees(model: Any) -> list[Worth]:
    return [votes(one.tree_, weight) for one, weight in zip(model.estimators_, model.estimator_weights_, strict=False)]


def _decision(model: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(model.decision_function(features))


def _decision_trees(model: Any) -> list[Worth]:
    """scikit-learn's AdaBoost decides by 2 Σ α h / Σ α, and the bag by the mean of its AdaBoosts."""
    boosts = [bag[-1] for bag in model.estimators_]  # each a pipeline: sampler, AdaBoost
    return [
        votes(one.tree_, 2 * weight / (boost.estimator_weights_.sum() * len(boosts)))
        for boost in boosts
        for one, weight in zip(boost.estimators_, boost.estimator_weights_, strict=False)  # weights of rounds not needed are 0
    ]


def _share(model: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    return logit(np.clip(model.predict_proba(features)[:, 1], _EVEN, 1 - _EVEN))


def _share_trees(model: Any) -> list[Worth]:
    return [shares(bag[-1].tree_, 1 / len(model.estimators_)) for bag in model.estimators_]
