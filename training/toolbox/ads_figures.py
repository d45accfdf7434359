"""Figures of one ranking of the ads lists: the release's metrics, average precision, and paired gains over another ranking.

Knows lists and scores, no method. Everything is over lists drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.metrics import interval_of_draws, list_draws, paired_bootstrap_interval
from ranking.types import TIERS, FloatArray
from training.lists.arrays import EvalLists
from training.release.evaluate import Row, as_row, evaluate
from training.toolbox.ads_data import Part
from training.toolbox.outcome import GAIN

SEED = 5
DRAWS = 200  # of lists, for figures
_PAIRED = 1000  # for gains
_POINTS = 120  # of a precision-recall curve
_BINS = 25  # of a calibration curve
_LEVELS = 800  # scores of positives that the draws of average precision tell apart
_GAINS = ("ndcg10", "recall50", "recall50_new")


@dataclass(frozen=True)
class Measured:
    """What is kept of a ranking once its scores are gone: enough to hold another one against it."""

    figures: dict[str, Row]
    per_list: dict[str, FloatArray]  # metric -> (L,)
    entropy: FloatArray  # (draws,) normalised entropy of each draw; NaN for scores that are no probabilities


@dataclass(frozen=True)
class Yardstick:
    """The lists that everything is measured on."""

    part: Part
    draws: int = DRAWS

    def measure(self, scores: FloatArray, *, calibrated: bool, against: Measured | None = None) -> Measured:
        """Figures of a ranking.

        Args:
            scores: (N,) higher is better.
            calibrated: they are probabilities.
            against: of another ranking of the same lists: adds ``*_gain``.
        """
        lists, labels = self._lists, self._labels
        table = evaluate(
            {"": scores},
            lists,
            probabilities=frozenset({""} if calibrated else ()),
            seed=SEED,
            n=self.draws,
            repeat=np.asarray(self.part.repeat),
        )[""]
        top = metrics.top_of_lists(scores, lists.offsets, 50)
        per_list = {
            "ndcg10": metrics.ndcg_of_lists(scores, labels, lists.offsets, k=10, ideal=lists.ideal_positives, top=top),
            "recall50": metrics.recall_of_lists(scores, labels, lists.offsets, k=50, ideal=lists.ideal_positives, top=top),
            "recall50_new": metrics.recall_of_lists(scores, self._fresh, lists.offsets, k=50, top=top),
        }
        row = table["all"]
        ap = metrics.pooled_average_precision(scores, labels)
        row["ap"] = as_row(interval_of_draws(ap, _average_precision_of_draws(scores, labels, self._owners, self._draws)))
        entropy = np.full(self.draws, np.nan)
        if calibrated:
            entropy = metrics.normalized_entropy_of_draws(scores, labels, self._owners, self._draws)
        if against is not None:
            for name in _GAINS:
                theirs = against.per_list[name]
                row[name + GAIN] = as_row(paired_bootstrap_interval(per_list[name], theirs, SEED, n=_PAIRED, groups=self.part.households))
            plain, ours = against.figures["all"].get("ne"), row.get("ne")
            if ours is not None and plain is not None and ours[0] is not None and plain[0] is not None:
                row["ne" + GAIN] = as_row(interval_of_draws(plain[0] - ours[0], against.entropy - entropy))  # less is better
        return Measured(table, per_list, entropy)

    def curves(self, scores: FloatArray, *, calibrated: bool) -> dict[str, list[list[float]]]:
        """Precision over recall and, of probabilities, actual over predicted; overall and per tier."""
        out = {}
        members = {"": np.ones(len(scores), bool)} | {f"/{tier}": np.asarray(self.part.tiers) == code for code, tier in enumerate(TIERS)}
        for name, rows in members.items():
            s, y = scores[rows], self._labels[rows]
            if not y.any():
                continue
            curve = metrics.precision_recall_curve(s, y)
            at = np.unique(np.searchsorted(curve.recall, np.linspace(0.01, 1.0, _POINTS)).clip(max=len(curve.recall) - 1))
            out[f"pr{name}"] = np.stack([curve.recall[at], curve.precision[at]], axis=1).round(5).tolist()
            if calibrated:
                out[f"calibration{name}"] = _calibration(s, y)
        return out

    @cached_property
    def _lists(self) -> EvalLists:
        return self.part.eval_lists()

    @cached_property
    def _labels(self) -> FloatArray:
        return np.asarray(self.part.labels, np.float64)

    @cached_property
    def _fresh(self) -> FloatArray:
        return self._labels * ~np.asarray(self.part.repeat)

    @cached_property
    def _owners(self) -> NDArray[np.int64]:
        return self.part.owners()

    @cached_property
    def _draws(self) -> FloatArray:
        return list_draws(len(self.part), SEED, n=self.draws, groups=self.part.households)


def thinned_row(probabilities: FloatArray, part: Part, draws: int = DRAWS) -> dict[str, Row]:
    """NE and predicted over actual of lists that kept a known share of their negatives, overall and per tier.

    What a dropped negative would have added is made up for by its kept likes, each counting 1 / share (Horvitz and Thompson 1952).
    """
    labels, tiers, owners = np.asarray(part.labels) > 0, np.asarray(part.tiers), part.owners()
    weights = np.where(labels, 1.0, 1.0 / part.negatives_rate)
    drawn = list_draws(len(part), SEED, n=draws, groups=part.households)

    def total(values: FloatArray, rows: NDArray[np.bool_]) -> tuple[float, FloatArray]:
        sums = np.bincount(owners[rows], values[rows], len(part))
        return float(sums.sum()), drawn @ sums

    out: dict[str, Row] = {}
    p = np.clip(probabilities, 1e-15, 1.0 - 1e-15)
    surprise = -np.where(labels, np.log(p), np.log1p(-p)) * weights
    for group, rows in {"all": np.ones(len(p), bool), **{tier: tiers == code for code, tier in enumerate(TIERS)}}.items():
        positives, weight, predicted = total(labels.astype(float), rows), total(weights, rows), total(p * weights, rows)
        if not positives[0]:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = interval_of_draws(predicted[0] / positives[0], predicted[1] / positives[1])
            out[group] = {"positives": [positives[0], None, None], "predicted_over_actual": as_row(ratio)}
            if group == "all":
                loss = total(surprise, rows)
                entropies = [_entropy(y / w) * w for y, w in zip(positives, weight, strict=True)]
                out[group]["ne"] = as_row(interval_of_draws(loss[0] / float(entropies[0]), loss[1] / entropies[1]))
    return out


def _entropy(rate: FloatArray | float) -> FloatArray | float:
    return -(rate * np.log(rate) + (1.0 - rate) * np.log1p(-rate))


def _average_precision_of_draws(scores: FloatArray, labels: FloatArray, owners: NDArray[np.int64], draws: FloatArray) -> FloatArray:
    """(n,) pooled average precision on draws of lists; scores between two of 800 levels of positives' scores count as one."""
    positive = labels > 0
    levels = np.unique(scores[positive])
    levels = levels[np.unique(np.linspace(0, len(levels) - 1, _LEVELS).astype(np.int64))]
    kept = scores >= levels[0]  # rows below every positive change no precision that counts
    codes = np.searchsorted(levels, scores[kept], side="right") - 1
    flat = owners[kept] * len(levels) + codes
    shape = (draws.shape[1], len(levels))
    table = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
    hits = np.bincount(flat[positive[kept]], minlength=shape[0] * shape[1]).reshape(shape)
    named, found = (np.cumsum((draws @ t)[:, ::-1], axis=1) for t in (table, hits))
    steps = np.diff(found, axis=1, prepend=0.0)
    precision = np.divide(found, named, out=np.zeros_like(found), where=named > 0)
    return np.divide((steps * precision).sum(axis=1), found[:, -1], out=np.full(len(draws), np.nan), where=found[:, -1] > 0)


def _calibration(p: FloatArray, labels: FloatArray) -> list[list[float]]:
    """Points of equal numbers of positives, at least 20, by rising probability: bins of equal mass would hold none but the last."""
    order = np.argsort(p, kind="stable")
    found = np.cumsum(labels[order])
    bins = int(np.clip(found[-1] // 20, 1, _BINS))
    cuts = np.unique(np.searchsorted(found, np.linspace(0, found[-1], bins + 1)[1:-1]))
    parts = np.split(order, cuts)
    return [[float(f"{p[rows].mean():.4g}"), float(f"{labels[rows].mean():.4g}")] for rows in parts if len(rows)]
