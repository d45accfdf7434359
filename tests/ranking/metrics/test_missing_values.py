"""A label, gain or weight that is missing is refused by every metric alike: compared with 0 it would read as a negative."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ranking import metrics
from ranking.metrics.arrays import known

SCORES = np.array([0.1, 0.3, 0.2])
HOLES = pytest.mark.parametrize("hole", [[1, np.nan, 0], [1, None, 0]], ids=["nan", "none"])
OFFSETS = np.array([0, 2, 3])
LISTS, DRAWS = np.array([0, 0, 1]), np.ones((2, 2))

OF_LABELS: tuple[str, ...] = (
    "expected_calibration_error",
    "log_loss",
    "normalized_entropy",
    "pooled_average_precision",
    "precision_recall_curve",
    "predicted_over_actual",
    "reliability_curve",
    "roc_auc",
)
OF_DECISIONS: tuple[str, ...] = ("accuracy", "balanced_accuracy", "f1", "g_mean", "macro_f1", "precision", "recall")
OF_DRAWS: tuple[str, ...] = (
    "calibration_error_of_draws",
    "normalized_entropy_of_draws",
    "predicted_over_actual_of_draws",
    "roc_auc_of_draws",
)
OF_A_LIST: tuple[str, ...] = ("average_precision", "ndcg_at_k", "precision_at_k", "recall_at_k", "reciprocal_rank")
OF_LISTS: tuple[str, ...] = (
    "average_precision_of_lists",
    "ndcg_of_lists",
    "precision_of_lists",
    "recall_of_lists",
    "reciprocal_rank_of_lists",
)


def _metric(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(metrics, name)
    return found


@HOLES
@pytest.mark.parametrize("name", [*OF_LABELS, *OF_DRAWS])
def test_a_missing_label_is_refused(name: str, hole: list[float]) -> None:
    """Nothing is counted for a row of which nobody knows what happened."""
    metric = partial(_metric(name), lists=LISTS, draws=DRAWS) if name in OF_DRAWS else _metric(name)
    metric(SCORES, labels=np.array([1, 0, 0]))
    with pytest.raises(ValueError, match=r"^labels: must not hold NaN"):
        metric(SCORES, labels=hole)


@HOLES
@pytest.mark.parametrize("name", OF_DECISIONS)
def test_a_missing_decision_is_refused(name: str, hole: list[float]) -> None:
    """On either side: what was named, and what is."""
    for argument, others in (("actual", {"predicted": [1, 0, 1]}), ("predicted", {"actual": [1, 0, 1]})):
        with pytest.raises(ValueError, match=rf"^{argument}: must not hold NaN"):
            _metric(name)(**{argument: np.array(hole)}, **{other: np.array(v) for other, v in others.items()})


@HOLES
@pytest.mark.parametrize("name", OF_A_LIST)
def test_a_missing_gain_of_a_list_is_refused(name: str, hole: list[float]) -> None:
    """Behind the cut as before it, and among what retrieval lost."""
    for k in (1, None):
        with pytest.raises(ValueError, match=r"^gains: must not hold NaN"):
            _metric(name)(SCORES, hole, k=k)
    with pytest.raises(ValueError, match=r"^ideal_gains: must not hold NaN"):
        _metric(name)(SCORES, [1.0, 0.0, 0.0], ideal_gains=hole)


@HOLES
@pytest.mark.parametrize("name", OF_LISTS)
def test_a_missing_gain_of_many_lists_is_refused(name: str, hole: list[float]) -> None:
    """And a list of which nobody knows how many positives it had."""
    with pytest.raises(ValueError, match=r"^gains: must not hold NaN"):
        _metric(name)(SCORES, hole, OFFSETS, k=1)
    with pytest.raises(ValueError, match=r"^ideal: must not hold NaN"):
        _metric(name)(SCORES, [1.0, 0.0, 0.0], OFFSETS, k=1, ideal=[1, hole[1]])


@HOLES
def test_a_missing_group_is_refused(hole: list[float]) -> None:
    """Nobody knows whose place it is."""
    with pytest.raises(ValueError, match=r"^groups: must not hold NaN"):
        metrics.group_share_at_k(SCORES, hole, group=1)
    with pytest.raises(ValueError, match=r"^member: must not hold NaN"):
        metrics.share_of_lists(SCORES, hole, OFFSETS, k=1)
    with pytest.raises(ValueError, match=r"^shown: must not hold NaN"):
        metrics.ndkl(hole, [0.5, 0.5])


@pytest.mark.parametrize("wrong", [np.nan, -1.0, np.inf])
def test_a_weight_that_is_none_is_refused(wrong: float) -> None:
    """Weights are finite and not negative, wherever they come in."""
    weights = np.array([1.0, wrong])
    calls: tuple[Callable[[], object], ...] = (
        lambda: metrics.effective_sample_size(weights),
        lambda: metrics.ips(np.ones(2), weights, least=1.0),
        lambda: metrics.snips(np.ones(2), weights, least=1.0),
        lambda: metrics.doubly_robust(np.ones(2), weights, np.ones(2), np.ones(2), least=1.0),
        lambda: metrics.expected_exposure(np.array([[0, 1]]), 2, weights),
        lambda: metrics.target_exposure(np.ones(2), weights),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"^weights: must be finite and not negative"):
            call()


@HOLES
def test_a_missing_reward_or_relevance_is_refused(hole: list[float]) -> None:
    """What an action earned, and how relevant an item is, cannot be guessed."""
    with pytest.raises(ValueError, match=r"^rewards: must not hold NaN"):
        metrics.ips(hole, np.ones(3), least=1.0)
    with pytest.raises(ValueError, match=r"^gains: must not hold NaN"):
        metrics.target_exposure(hole, np.ones(1))


def test_a_score_on_draws_that_is_missing_is_refused() -> None:
    """As by the metric itself."""
    with pytest.raises(ValueError, match=r"^scores: must not hold NaN"):
        metrics.roc_auc_of_draws(np.array([0.1, np.nan, 0.2]), np.array([1, 0, 0]), LISTS, DRAWS)


def test_shares_that_are_none_are_no_distribution() -> None:
    """A NaN among the shares compares with nothing, and must not slip through the sum."""
    shares = np.array([0.5, math.nan])
    for metric in (metrics.awrf, metrics.ndkl):
        with pytest.raises(ValueError, match="needs shares that sum to 1"):
            metric(np.array([0, 1]), shares)


@pytest.mark.parametrize("values", [[1, 0], [True, False], ["a", "b"], [0.5, np.inf], np.array([1, "a"], object)])
def test_what_is_there_passes(values: list[object]) -> None:
    """Classes may be of any kind."""
    assert known("labels", np.asarray(values)).tolist() == np.asarray(values).tolist()
