"""The table a person decides by: every ranker, overall and per popularity tier, with intervals.

Lists are the unit: intervals come from drawing lists again, never rows, because the rows of one list are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.metrics import Interval, bootstrap_interval, paired_bootstrap_interval
from ranking.types import TIERS
from training.blends.ensemble import EvalLists, ndcg, per_list, tail_share

FEWEST_LISTS = 10  # a mean over fewer lists is not reported

Row = dict[str, list[float | None]]  # metric -> [value, low, high]; None where undefined


def evaluate(
    scores: Mapping[str, NDArray[np.float64]], lists: EvalLists, *, probabilities: frozenset[str], seed: int, n: int
) -> dict[str, dict[str, Row]]:
    """Metrics of each ranker.

    Args:
        scores: ranker -> (N,) scores, higher is better.
        lists: the lists they scored.
        probabilities: rankers whose scores are calibrated probabilities: these also get NE and predicted/actual.
        seed: of the bootstrap.
        n: bootstrap draws.

    Returns:
        ranker -> ``all`` or tier -> metric -> [value, low, high]. Overall: ``ndcg10`` and ``recall10`` against all positives of
        the uncut list, ``tail_share10``; per tier: ``recall10`` of the tier's positives among the candidates; for calibrated
        probabilities NE, predicted/actual and ECE overall, the last two per tier as well.
    """
    return {
        name: {"all": _overall(s, lists, name in probabilities, seed, n)}
        | {tier: _tier(s, lists, code, name in probabilities, seed, n) for code, tier in enumerate(TIERS)}
        for name, s in scores.items()
    }


def _overall(scores: NDArray[np.float64], lists: EvalLists, calibrated: bool, seed: int, n: int) -> Row:
    labels = lists.labels.astype(np.float64)
    ideals = iter(lists.ideal_positives)
    recall = per_list(lambda s, span: metrics.recall_at_k(s, labels[span], k=10, ideal_gains=np.ones(next(ideals))), scores, lists)
    row = {
        "ndcg10": _row(bootstrap_interval(ndcg(scores, lists), seed, n=n)),
        "recall10": _row(bootstrap_interval(recall, seed, n=n)),
        "tail_share10": _row(bootstrap_interval(tail_share(scores, lists), seed, n=n)),
        "auc": _resampled(metrics.roc_auc, scores, lists, slice(None), seed, n),
    }
    if calibrated:
        row["ne"] = _resampled(metrics.normalized_entropy, scores, lists, slice(None), seed, n)
        row["predicted_over_actual"] = _resampled(metrics.predicted_over_actual, scores, lists, slice(None), seed, n)
        row["ece"] = _resampled(metrics.expected_calibration_error, scores, lists, slice(None), seed, n)
    return row


def versus(ours: NDArray[np.float64], theirs: NDArray[np.float64], lists: EvalLists, *, seed: int, n: int) -> list[float | None]:
    """Difference in NDCG@10 on the same lists, with its paired interval: only one that excludes 0 is a difference."""
    return _row(paired_bootstrap_interval(ndcg(ours, lists), ndcg(theirs, lists), seed, n=n))


def _tier(scores: NDArray[np.float64], lists: EvalLists, code: int, calibrated: bool, seed: int, n: int) -> Row:
    member = lists.tiers == code
    gains = (lists.labels * member).astype(np.float64)
    recall = per_list(lambda s, span: metrics.recall_at_k(s, gains[span], k=10), scores, lists)
    if np.isfinite(recall).sum() < FEWEST_LISTS:
        recall = np.full(len(recall), np.nan)
    row = {"recall10": _row(bootstrap_interval(recall, seed, n=n))}
    if calibrated and gains.any():
        row["predicted_over_actual"] = _resampled(metrics.predicted_over_actual, scores, lists, member, seed, n)
        row["ece"] = _resampled(metrics.expected_calibration_error, scores, lists, member, seed, n)
    return row


def _resampled(metric: Any, scores: NDArray[np.float64], lists: EvalLists, rows: Any, seed: int, n: int) -> list[float | None]:
    """A pooled metric with its interval over lists drawn again; draws on which it is undefined are left out."""
    chosen = np.zeros(len(scores), bool)
    chosen[rows] = True
    by_list = [np.flatnonzero(chosen[a:b]) + a for a, b in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(min(n, 200)):  # pooled metrics sort or sum all rows; 200 draws give the ends to about a tenth of their width
        drawn = np.concatenate([by_list[i] for i in rng.integers(0, len(lists), len(lists))])
        labels = lists.labels[drawn]
        if 0 < labels.sum() < len(labels):
            values.append(metric(scores[drawn], labels))
    point = metric(scores[chosen], lists.labels[chosen])
    low, high = np.quantile(values, (0.025, 0.975)) if values else (np.nan, np.nan)
    return _row(Interval(point, float(low), float(high)))


def _row(interval: Interval) -> list[float | None]:
    """Rounded for people; what is not finite (no list could have a value) becomes None so that the manifest stays strict JSON."""
    return [None if not np.isfinite(x) else round(float(x), 5) for x in interval]
