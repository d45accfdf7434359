"""The toolbox on the online shop's visits (Sakar et al. 2018): stratified folds, everything fitted and resampled inside the training folds.

Knows the data's folder, the folds and the marks; the methods are in `shoppers_methods.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import sigmoid
from training.blends.calibrators import CALIBRATORS
from training.splits import stratified
from training.toolbox import shoppers_boosting as boosting
from training.toolbox.binary import Measured, Yardstick
from training.toolbox.outcome import Named, Outcome
from training.toolbox.shoppers_data import Sessions, read
from training.toolbox.shoppers_methods import Effort, Method, Trial, methods, rebalanced

DATA = "online_shoppers"
FOLDS = 5
_QUICK_ROWS = 1500
_HELD = (4, 1)  # training visits to train on, to fit a calibrator on
_CALIBRATED = "smote"  # made-up rows bend probabilities as no shift undoes


def measure(folder: Path, *, quick: bool = False, seed: int = 0) -> tuple[list[Outcome], dict[str, float]]:
    """Every method's figures, and the benchmark's keys.

    Args:
        folder: of the source's file.
        quick: few rows, folds and trees: shows that everything runs, not what it gains.
        seed: of folds, resampling and models.

    Returns:
        Outcomes; ``online_shoppers_auc`` and ``online_shoppers_ap``, mean over folds, of the blend.
    """
    visits, effort = read(folder), Effort(quick, seed)
    if quick:
        visits = visits.some(np.random.default_rng(seed).permutation(len(visits))[:_QUICK_ROWS])
    folds = fold_of(visits.labels, 2 if quick else FOLDS, seed)
    settings = [_setting(visits.some(np.flatnonzero(folds != k)), effort) for k in range(int(folds.max()) + 1)]
    yardstick = Yardstick(visits.labels, folds)
    outcomes: list[Outcome] = []
    measured: dict[str, Measured] = {}
    known: dict[Method, list[Trial] | str] = {}
    for named in methods():
        if named.method not in known:
            known[named.method] = _cross_validated(named, visits, folds, settings, effort)
        trials = known[named.method]
        outcome, figures = _outcome(named, trials, visits, folds, yardstick, measured.get(named.baseline))
        measured[named.name] = figures
        outcomes.append(outcome)
    outcomes += _calibrated(visits, folds, settings, effort, yardstick)
    best = measured["equal"].row
    return outcomes, {"online_shoppers_auc": _value(best, "auc"), "online_shoppers_ap": _value(best, "ap")}


def fold_of(labels: NDArray[np.int8], folds: int, seed: int) -> NDArray[np.int64]:
    """(n,) fold of each visit; positives and negatives are spread evenly."""
    return stratified(np.arange(len(labels)), labels, (1,) * folds, seed=seed).astype(np.int64)


def _setting(train: Sessions, effort: Effort) -> dict[str, Any]:
    return boosting.GRID[0] if effort.quick else boosting.tuned(train, seed=effort.seed)


def _cross_validated(
    named: Named[Method], visits: Sessions, folds: NDArray[np.int64], settings: list[dict[str, Any]], effort: Effort
) -> list[Trial] | str:
    """A trial per fold, or why the method cannot be used on these visits."""
    try:
        return [
            named.method(visits.some(np.flatnonzero(folds != k)), visits.rows[folds == k], setting, effort)
            for k, setting in enumerate(settings)
        ]
    except ValueError as error:  # methods say in words what they lack, such as neighbours
        return str(error)


def _outcome(
    named: Named[Method],
    trials: list[Trial] | str,
    visits: Sessions,
    folds: NDArray[np.int64],
    yardstick: Yardstick,
    against: Measured | None,
) -> tuple[Outcome, Measured]:
    if isinstance(trials, str):
        return Outcome(DATA, named.kind, named.name, {}, 0.0, named.baseline, note=f"failed: {trials}"), Measured({}, {})
    scores, called = np.empty(len(visits)), np.empty(len(visits), bool)
    for k, trial in enumerate(trials):
        scores[folds == k], called[folds == k] = trial.scores, trial.scores - trial.shift >= 0.0
    figures = yardstick.measure(sigmoid(scores), called, against=against)
    raw = scores - np.array([trial.shift for trial in trials])[folds]
    row = dict(figures.row) | {"predicted_over_actual_raw": yardstick.measure(sigmoid(raw)).row["predicted_over_actual"]}
    curves = yardstick.curves(sigmoid(scores))
    if named.kind in ("resampler", "generator"):
        after = np.mean([trial.classes for trial in trials], axis=0)
        before = np.bincount(visits.labels) * (1 - 1 / len(trials))
        curves["classes"] = [[float(c), round(float(before[c]), 1), round(float(after[c]), 1)] for c in (0, 1)]
    seconds = float(np.sum([trial.seconds for trial in trials]))
    return Outcome(DATA, named.kind, named.name, {"all": row}, round(seconds, 3), named.baseline, curves, named.note), figures


def _calibrated(
    visits: Sessions, folds: NDArray[np.int64], settings: list[dict[str, Any]], effort: Effort, yardstick: Yardstick
) -> list[Outcome]:
    """Calibrators of the model that SMOTE bends most, fitted on training visits that were kept untouched."""
    names = ("raw", "prior", *CALIBRATORS)
    p = {name: np.empty(len(visits)) for name in names}
    for k, setting in enumerate(settings):
        train = visits.some(np.flatnonzero(folds != k))
        held = stratified(np.arange(len(train)), train.labels, _HELD, seed=effort.seed) == 1
        kept, aside = train.some(np.flatnonzero(~held)), train.some(np.flatnonzero(held))
        rows = rebalanced(_CALIBRATED, kept, effort)
        model = boosting.fit(rows.features, rows.labels, weights=rows.weights, seed=effort.seed, rounds=effort.rounds, setting=setting)
        test, seen = boosting.log_odds(model, visits.rows[folds == k]), boosting.log_odds(model, aside.rows)
        p["raw"][folds == k], p["prior"][folds == k] = sigmoid(test), sigmoid(test + rows.offset)
        for name, fit in CALIBRATORS.items():
            p[name][folds == k] = fit(seen, aside.labels)(test)
    plain = yardstick.measure(p["raw"])
    note = f"Of the plain model after {_CALIBRATED}; fitted on one fifth of the training visits, which {_CALIBRATED} never saw."
    outcomes = []
    for name in names:
        measured = plain if name == "raw" else yardstick.measure(p[name], against=plain)
        baseline = "" if name == "raw" else "raw"
        outcomes.append(Outcome(DATA, "calibrator", name, {"all": measured.row}, 0.0, baseline, yardstick.curves(p[name]), note))
    return outcomes


def _value(row: Any, metric: str) -> float:
    value = row[metric][0]
    return float("nan") if value is None else float(value)
