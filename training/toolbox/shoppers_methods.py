"""What is tried on the online shop: each method turns training visits into scores of visits it did not see. Knows no fold and no figure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.imbalance.resample import RESAMPLERS, Resampled, resample
from training.members.contract import Rows
from training.members.registry import MEMBERS, train
from training.toolbox import shoppers_boosting as boosting
from training.toolbox.effort import generator_options
from training.toolbox.outcome import Named
from training.toolbox.shoppers_data import Sessions, one_hot

LOSSES: dict[str, dict[str, Any]] = {
    "bce": {},
    "weighted_bce": {},
    "focal": {},
    "class_balanced": {},
    "logit_adjusted": {},
    "balanced_softmax": {},
    "ldam": {"loss_options": {"max_margin": 0.5}},
}
"""Those over rows; the others compare the items of a list, and visits come in none."""
NOT_FOR_ROWS = ("lambdarank",)


@dataclass(frozen=True, slots=True)
class Trial:
    """One fold of one method.

    Attributes:
        scores: (m,) log-odds, with the shift of a resampling undone.
        shift: what was added for that; scores − shift are what the model itself says.
        seconds: of resampling and training.
        classes: (negatives, positives) it was trained on, by weight.
    """

    scores: NDArray[np.float64]
    shift: float
    seconds: float
    classes: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is spent; `quick` only shows that everything runs."""

    quick: bool
    seed: int

    @property
    def rounds(self) -> int:
        return 30 if self.quick else boosting.ROUNDS

    @property
    def seeds(self) -> int:
        return 1 if self.quick else 3


Method = Callable[[Sessions, NDArray[np.float32], dict[str, Any], Effort], Trial]
"""``(training visits, raw rows to score, tuned setting, effort)``"""


def methods() -> list[Named[Method]]:
    """All methods, the plain one of each kind first."""
    plain, network = _resampled("none"), _neural(loss="bce")
    resamplers = [Named("resampler", name, "none", _resampled(name), _RESAMPLED) for name in RESAMPLERS if name != "none"]
    learners = [name for name, m in MEMBERS.items() if m.learns and name not in (*NOT_FOR_ROWS, "neural")]
    losses = [Named("loss", name, "bce", _neural(loss=name, **more), _LOSS) for name, more in LOSSES.items() if name != "bce"]
    return [
        Named("resampler", "none", "", plain),
        *resamplers,
        Named("member", "tuned_boosting", "", plain, "LightGBM with categories, tuned on inner folds."),
        *(Named("member", name, "tuned_boosting", _member(name)) for name in learners),
        Named("member", "average_of_seeds", "tuned_boosting", _seeds, "The plain model, trained thrice."),
        Named("loss", "bce", "", network, _LOSS),
        *losses,
        Named("optimiser", "adamw", "", network),
        Named("optimiser", "adagrad", "adamw", _neural(loss="bce", optimiser="adagrad", learning_rate=0.03), "Ten times AdamW's step."),
        Named("ablation", "decoupled", "bce", _neural(loss="bce", decoupled="random_over"), _DECOUPLED),
        Named("ablation", "untuned", "tuned_boosting", _untuned, "The first setting of the grid everywhere."),
        Named("blend", "tuned_boosting", "", plain),
        Named("blend", "equal", "tuned_boosting", _blend, _BLEND),
    ]


_RESAMPLED = "The tuned LightGBM on resampled visits; the shift of the log-odds is undone, calls are made as the model sees it."
_DECOUPLED = "The network's last layer trained again on balanced embeddings."
_LOSS = "A network of two hidden layers; LDAM with deferred re-weighting."
_BLEND = (
    "Mean log-odds of four boostings that differ in size and class weights, each an average of seeds, and of extremely randomised trees on "
    "two codings of the categories; nothing is fitted to choose among them."
)


def _timed(fit: Callable[[], tuple[NDArray[np.float64], float, tuple[float, float]]]) -> Trial:
    start = time.perf_counter()
    scores, shift, classes = fit()
    return Trial(scores, shift, time.perf_counter() - start, classes)


def _counts(labels: NDArray[Any], weights: NDArray[Any] | None = None) -> tuple[float, float]:
    counts = np.bincount(labels, weights, minlength=2)
    return float(counts[0]), float(counts[1])


def rebalanced(name: str, train_on: Sessions, effort: Effort) -> Resampled:
    """The training visits as many positives as negatives, by the resampler of that name."""
    options = generator_options(name, quick=effort.quick)
    return resample(name, train_on.rows, train_on.labels, strength=1.0, seed=effort.seed, columns=train_on.columns, options=options)


def _resampled(name: str) -> Method:
    def method(visits: Sessions, test: NDArray[np.float32], setting: dict[str, Any], effort: Effort) -> Trial:
        def fit() -> tuple[NDArray[np.float64], float, tuple[float, float]]:
            rows = rebalanced(name, visits, effort)
            models = boosting.fit(rows.features, rows.labels, weights=rows.weights, seed=effort.seed, rounds=effort.rounds, setting=setting)
            return boosting.log_odds(models, test) + rows.offset, rows.offset, _counts(rows.labels, rows.weights)

        return _timed(fit)

    return method


def _member(name: str, **options: Any) -> Method:
    def method(visits: Sessions, test: NDArray[np.float32], setting: dict[str, Any], effort: Effort) -> Trial:
        def fit() -> tuple[NDArray[np.float64], float, tuple[float, float]]:
            rows = Rows.of(one_hot(visits.rows, visits.levels), visits.labels)
            scorer = train(name, rows, seed=effort.seed, options=options | (_FEW.get(name, {}) if effort.quick else {}))
            return scorer.logits(one_hot(test, visits.levels)), 0.0, _counts(visits.labels)

        return _timed(fit)

    return method


_FEW: dict[str, dict[str, Any]] = {
    name: {"rounds": 10} for name in ("adaboost", "bagging", "boosting", "boosting_weighted", "rusboost")
} | {
    "balanced_bagging": {"bags": 3},
    "easy_ensemble": {"bags": 2, "rounds": 5},
    "neural": {"epochs": 1},
}


def _neural(**options: Any) -> Method:
    return _member("neural", **({"hidden": (64, 32), "epochs": 6} | options))


def _seeds(visits: Sessions, test: NDArray[np.float32], setting: dict[str, Any], effort: Effort) -> Trial:
    def fit() -> tuple[NDArray[np.float64], float, tuple[float, float]]:
        models = boosting.fit(visits.rows, visits.labels, setting=setting, seed=effort.seed, seeds=effort.seeds, rounds=effort.rounds)
        return boosting.log_odds(models, test), 0.0, _counts(visits.labels)

    return _timed(fit)


def _untuned(visits: Sessions, test: NDArray[np.float32], setting: dict[str, Any], effort: Effort) -> Trial:
    return _resampled("none")(visits, test, boosting.GRID[0], effort)


def _blend(visits: Sessions, test: NDArray[np.float32], setting: dict[str, Any], effort: Effort) -> Trial:
    def fit() -> tuple[NDArray[np.float64], float, tuple[float, float]]:
        negatives, positives = _counts(visits.labels)
        scores = []
        for power, chosen in ((0.0, setting), (1.0, setting), (0.0, boosting.GRID[1]), (0.5, boosting.GRID[2])):
            weights = np.where(visits.labels == 1, np.float32((negatives / positives) ** power), np.float32(1.0))
            models = boosting.fit(
                visits.rows,
                visits.labels,
                weights=weights,
                seed=effort.seed,
                seeds=effort.seeds,
                rounds=effort.rounds,
                setting=chosen,
            )
            scores.append(boosting.log_odds(models, test) - power * float(np.log(negatives / positives)))
        trees = 20 if effort.quick else 150
        scores += [boosting.extra_trees(visits, test, hot=hot, seed=effort.seed, trees=trees) for hot in (False, True)]
        return np.mean(scores, axis=0), 0.0, (negatives, positives)

    return _timed(fit)
