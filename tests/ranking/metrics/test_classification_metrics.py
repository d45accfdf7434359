"""Metrics of decisions and of pooled scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.metrics import geometric_mean_score

from ranking import metrics
from ranking.metrics import g_mean, pooled_average_precision, precision_recall_curve, roc_auc

SOME, THOUSANDS = range(60), pytest.param(range(60, 3000), marks=pytest.mark.exhaustive)
SEEDS = pytest.mark.parametrize("seeds", [SOME, THOUSANDS], ids=["some", "thousands"])


def labelled(seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Decisions that are right more often than not, every class present in what is true."""
    rng = np.random.default_rng(seed)
    actual = np.concatenate([np.arange(classes), rng.integers(0, classes, rng.integers(1, 40))])
    return np.where(rng.random(len(actual)) < 0.6, actual, rng.integers(0, classes, len(actual))), actual


@SEEDS
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("accuracy", sklearn.metrics.accuracy_score),
        ("precision", lambda a, p: sklearn.metrics.precision_score(a, p, zero_division=0)),
        ("recall", sklearn.metrics.recall_score),
        ("f1", sklearn.metrics.f1_score),
        ("macro_f1", lambda a, p: sklearn.metrics.f1_score(a, p, average="macro")),
        ("balanced_accuracy", sklearn.metrics.balanced_accuracy_score),
        ("g_mean", geometric_mean_score),
    ],
)
def test_decisions_are_judged_as_scikit_learn_does(ours: str, theirs: object, seeds: range) -> None:
    """Random binary decisions; G-mean as in imbalanced-learn."""
    assert callable(theirs)
    for seed in seeds:
        predicted, actual = labelled(seed)
        assert getattr(metrics, ours)(predicted, actual) == pytest.approx(theirs(actual, predicted)), seed


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(3, 5))
def test_many_classes(seed: int, classes: int) -> None:
    """Macro-F1 and balanced accuracy are scikit-learn's for more than two classes; G-mean is the root of the recalls' product."""
    predicted, actual = labelled(seed, classes)
    assert metrics.macro_f1(predicted, actual) == pytest.approx(sklearn.metrics.f1_score(actual, predicted, average="macro"))
    assert metrics.balanced_accuracy(predicted, actual) == pytest.approx(sklearn.metrics.balanced_accuracy_score(actual, predicted))
    recalls = [np.mean(predicted[actual == c] == c) for c in range(classes)]
    assert g_mean(predicted, actual) == pytest.approx(math.prod(recalls) ** (1 / classes))


@SEEDS
def test_scores_are_judged_as_scikit_learn_does(seeds: range) -> None:
    """AUC, pooled AP and the points of the curve, every other sample with ties."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 60))
        labels = rng.permutation(np.concatenate([[0, 1], rng.integers(0, 2, n - 2)]))
        scores = rng.integers(0, 8, n) / 8 if seed % 2 else rng.random(n)
        assert roc_auc(scores, labels) == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores))
        assert pooled_average_precision(scores, labels) == pytest.approx(sklearn.metrics.average_precision_score(labels, scores))
        ours = precision_recall_curve(scores, labels)
        precision, recall, threshold = sklearn.metrics.precision_recall_curve(labels, scores)
        np.testing.assert_allclose(ours.threshold, threshold[::-1])
        np.testing.assert_allclose(ours.precision, precision[-2::-1])  # theirs ends with an invented (0, 1)
        np.testing.assert_allclose(ours.recall, recall[-2::-1])


@given(st.integers(0, 2**32 - 1))
def test_auc_is_symmetric(seed: int) -> None:
    """Turning the scores or the labels around turns AUC around 1/2; turning both changes nothing."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 9, 30).astype(float), np.append(rng.integers(0, 2, 28), [0, 1])
    auc = roc_auc(scores, labels)
    assert roc_auc(-scores, labels) == pytest.approx(1 - auc)
    assert roc_auc(scores, 1 - labels) == pytest.approx(1 - auc)
    assert roc_auc(-scores, 1 - labels) == pytest.approx(auc)


def test_what_rare_classes_do_to_accuracy() -> None:
    """Naming nobody among one positive in a hundred: accuracy .99, balanced accuracy one half, F1 and G-mean 0."""
    actual, nobody = np.array([1] + [0] * 99), np.zeros(100, int)
    assert metrics.accuracy(nobody, actual) == 0.99
    assert metrics.balanced_accuracy(nobody, actual) == 0.5
    assert metrics.f1(nobody, actual) == metrics.precision(nobody, actual) == metrics.g_mean(nobody, actual) == 0.0


def test_what_the_data_cannot_say_is_nan() -> None:
    """Recall and AP without a positive, and everything of no rows."""
    none = np.zeros(3, int)
    assert math.isnan(metrics.recall(none, none))
    assert math.isnan(metrics.f1(none, none))
    assert math.isnan(pooled_average_precision(np.arange(3.0), none))
    assert np.isnan(precision_recall_curve(np.arange(3.0), none).recall).all()
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "g_mean"):
        assert math.isnan(getattr(metrics, name)(none[:0], none[:0]))


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1", "macro_f1", "balanced_accuracy", "g_mean"])
def test_decisions_and_truth_must_pair(name: str) -> None:
    """Different lengths are refused by name."""
    with pytest.raises(ValueError, match=r"^actual: "):
        getattr(metrics, name)(np.zeros(3, int), np.zeros(4, int))


def test_a_curve_needs_a_row() -> None:
    """No row, no threshold; scores and labels must pair."""
    with pytest.raises(ValueError, match=r"^scores: "):
        precision_recall_curve(np.array([]), np.array([]))
    with pytest.raises(ValueError, match=r"^labels: "):
        roc_auc(np.ones(3), np.ones(2))
