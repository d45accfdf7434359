"""The table a person decides by: every ranker, overall and per popularity tier, with intervals.

Lists are the unit: intervals come from drawing lists again, never rows, because the rows of one list are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.metrics import Interval, bootstrap_interval, interval_of_draws, paired_bootstrap_interval
from ranking.types import TIERS
from training.lists.arrays import EvalLists

FEWEST_LISTS = 10  # a mean over fewer lists is not reported
PLACES = (10, 50)  # a page, and what a later stage gets to choose a page from

Row = dict[str, list[float | None]]  # metric -> [value, low, high]; None where undefined
Array = NDArray[np.float64]


def evaluate(
    scores: Mapping[str, Array],
    lists: EvalLists,
    *,
    probabilities: frozenset[str],
    seed: int,
    n: int,
    repeat: NDArray[np.bool_] | None = None,
) -> dict[str, dict[str, Row]]:
    """Metrics of each ranker.

    Args:
        scores: ranker -> (N,) scores, higher is better.
        lists: the lists they scored.
        probabilities: rankers whose scores are calibrated probabilities: these also get what calibration is judged by.
        seed: of the bootstrap.
        n: bootstrap draws.
        repeat: (N,) rows whose user had bought the item before; with it the recall of everything else is reported.

    Returns:
        ranker -> ``all`` or tier -> metric -> [value, low, high]. Overall: ``ndcg10``, ``ndcg50``, ``recall10`` and ``recall50``
        against all positives of the uncut list, ``recall50_new`` of the positives among the candidates that are no repeats,
        ``tail_share10``, ``auc``; per tier: ``recall10`` of the tier's positives among the candidates. For calibrated probabilities
        ``ne`` overall, and overall and per tier ``predicted_over_actual``, ``ece``, and what they rest on: ``positives`` (a count)
        and ``base_rate``, both without interval. A tier without positives has the count only.
    """
    table = _Table(lists, seed, n, repeat)
    return {
        name: {"all": table.overall(s, calibrated=name in probabilities)}
        | {tier: table.tier(s, code, calibrated=name in probabilities) for code, tier in enumerate(TIERS)}
        for name, s in scores.items()
    }


def versus(ours: Array, theirs: Array, lists: EvalLists, *, seed: int, n: int) -> list[float | None]:
    """Difference in NDCG@10 on the same lists, with its paired interval: only one that excludes 0 is a difference."""
    labels = lists.labels.astype(np.float64)
    a, b = (metrics.ndcg_of_lists(s, labels, lists.offsets, k=PLACES[0], ideal=lists.ideal_positives) for s in (ours, theirs))
    return as_row(paired_bootstrap_interval(a, b, seed, n=n, groups=lists.households))


class _Table:
    """What all rankers share: the lists, and one set of draws of them."""

    def __init__(self, lists: EvalLists, seed: int, n: int, repeat: NDArray[np.bool_] | None) -> None:
        self._lists, self._seed, self._n = lists, seed, n
        self._labels = lists.labels.astype(np.float64)
        self._fresh = None if repeat is None else self._labels * ~repeat
        self._of_list = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
        self._draws = metrics.list_draws(len(lists), seed, n=n, groups=lists.households)

    def overall(self, scores: Array, *, calibrated: bool) -> Row:
        offsets, ideal = self._lists.offsets, self._lists.ideal_positives
        top = metrics.top_of_lists(scores, offsets, max(PLACES))
        row = {}
        for k in PLACES:
            row[f"ndcg{k}"] = self._mean(metrics.ndcg_of_lists(scores, self._labels, offsets, k=k, ideal=ideal, top=top))
            row[f"recall{k}"] = self._mean(metrics.recall_of_lists(scores, self._labels, offsets, k=k, ideal=ideal, top=top))
        if self._fresh is not None:
            row["recall50_new"] = self._mean(metrics.recall_of_lists(scores, self._fresh, offsets, k=50, top=top))
        row["tail_share10"] = self._mean(metrics.share_of_lists(scores, self._lists.tiers != 0, offsets, k=10, top=top))
        every = np.ones(len(scores), bool)
        row["auc"] = self._pooled(metrics.roc_auc, metrics.roc_auc_of_draws, scores, every)
        if calibrated:
            row["ne"] = self._pooled(metrics.normalized_entropy, metrics.normalized_entropy_of_draws, scores, every)
            row |= self._calibration(scores, every)
        return row

    def tier(self, scores: Array, code: int, *, calibrated: bool) -> Row:
        member = self._lists.tiers == code
        recall = metrics.recall_of_lists(scores, self._labels * member, self._lists.offsets, k=10)
        if np.isfinite(recall).sum() < FEWEST_LISTS:
            recall = np.full(len(recall), np.nan)
        return {"recall10": self._mean(recall)} | (self._calibration(scores, member) if calibrated else {})

    def _calibration(self, p: Array, rows: NDArray[np.bool_]) -> Row:
        positives = float(self._labels[rows].sum())
        counted: Row = {"positives": [positives, None, None]}
        if not positives:
            return counted
        return counted | {
            "base_rate": [round(positives / int(rows.sum()), 7), None, None],
            "predicted_over_actual": self._pooled(metrics.predicted_over_actual, metrics.predicted_over_actual_of_draws, p, rows),
            "ece": self._pooled(metrics.expected_calibration_error, metrics.calibration_error_of_draws, p, rows),
        }

    def _mean(self, per_list: Array) -> list[float | None]:
        return as_row(bootstrap_interval(per_list, self._seed, n=self._n, groups=self._lists.households))

    def _pooled(
        self, metric: Callable[..., float], of_draws: Callable[..., Array], scores: Array, rows: NDArray[np.bool_]
    ) -> list[float | None]:
        """A metric of the chosen rows of all lists together; draws on which it is undefined are left out."""
        s, y = scores[rows], self._lists.labels[rows]
        return as_row(interval_of_draws(metric(s, y), of_draws(s, y, self._of_list[rows], self._draws)))


def as_row(interval: Interval) -> list[float | None]:
    """Rounded for people; what is not finite (no list could have a value) becomes None so that the manifest stays strict JSON."""
    return [None if not np.isfinite(x) else round(float(x), 5) for x in interval]
