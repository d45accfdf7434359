from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from ranking import metrics
from training.toolbox.binary import Yardstick, class_rows


@given(seed=st.integers(0, 10_000), levels=st.integers(2, 50))
@settings(max_examples=15, deadline=None)
def test_values_are_the_metrics_own(seed: int, levels: int) -> None:
    """The value of every metric is the mean over folds of what `ranking.metrics` and scikit-learn say, ties included."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.array([0, 1, 0, 0], np.int8), 30)
    folds = np.repeat([0, 1], 60)
    p = (rng.integers(1, levels + 1, 120) / (levels + 1)).astype(np.float64)
    row = Yardstick(y, folds, count=3).measure(p).row
    parts = [(p[folds == k], y[folds == k], p[folds == k] >= 0.5) for k in (0, 1)]
    want = {
        "auc": [roc_auc_score(labels, s) for s, labels, _ in parts],
        "ap": [average_precision_score(labels, s) for s, labels, _ in parts],
        "balanced_accuracy": [balanced_accuracy_score(labels, called) for _, labels, called in parts],
        "f1": [f1_score(labels, called, zero_division=0) for _, labels, called in parts],
        "macro_f1": [metrics.macro_f1(called, labels > 0) for _, labels, called in parts],
        "g_mean": [metrics.g_mean(called, labels > 0) for _, labels, called in parts],
        "ne": [metrics.normalized_entropy(s, labels) for s, labels, _ in parts],
        "predicted_over_actual": [metrics.predicted_over_actual(s, labels) for s, labels, _ in parts],
        "ece": [metrics.expected_calibration_error(s, labels) for s, labels, _ in parts],
    }
    assert set(want) == set(row)
    for name, values in want.items():
        assert row[name][0] == pytest.approx(np.mean(values), abs=1e-5), name


def test_gains_are_paired_and_signed_so_that_more_is_better() -> None:
    """A method against itself gains nothing on any draw; one that knows the labels gains in AP and in NE, though NE falls."""
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.2).astype(np.int8)
    yardstick = Yardstick(y, np.zeros(400, np.int64), count=50)
    blind, knowing = rng.uniform(0.05, 0.4, 400), np.where(y == 1, 0.7, 0.1)
    plain = yardstick.measure(blind)
    assert yardstick.measure(blind, against=plain).row["ap_gain"] == [0.0, 0.0, 0.0]
    row = yardstick.measure(knowing, against=plain).row
    for name in ("ap_gain", "auc_gain", "ne_gain"):
        assert row[name][1] is not None
        assert row[name][1] > 0
    low, high = plain.row["auc"][1:]
    assert low is not None
    assert high is not None
    assert low <= 0.5 + 0.1
    assert high >= 0.5 - 0.1


def test_calls_need_not_be_at_one_half() -> None:
    """F1 and balanced accuracy follow the calls given, ranking metrics do not."""
    y = np.array([0, 0, 1, 1], np.int8)
    yardstick = Yardstick(y, np.zeros(4, np.int64), count=2)
    p = np.array([0.1, 0.2, 0.3, 0.4])
    assert yardstick.measure(p).row["balanced_accuracy"][0] == 0.5
    assert yardstick.measure(p, y == 1).row["balanced_accuracy"][0] == 1.0
    assert yardstick.measure(p, y == 1).row["auc"] == yardstick.measure(p).row["auc"]


def test_curves_end_where_all_is_found() -> None:
    """Recall rises to 1 along the precision-recall curve; calibration points are probabilities."""
    y = np.tile(np.array([0, 1, 0], np.int8), 40)
    curves = Yardstick(y, np.zeros(120, np.int64)).curves(np.linspace(0.0, 1.0, 120))
    recall = [r for r, _ in curves["pr"]]
    assert recall == sorted(recall)
    assert recall[-1] == 1.0
    assert all(0 <= v <= 1 for point in curves["calibration"] for v in point)


def test_classes_are_counted_by_weight() -> None:
    """A class's rows after a method are the weight they were trained with."""
    before, after = np.array([0, 0, 1], np.int8), np.array([0, 0, 1], np.int8)
    assert class_rows(before, after, np.array([1.0, 1.0, 2.0])) == [[0.0, 2.0, 2.0], [1.0, 1.0, 2.0]]
