"""Metrics of lists and of probabilities."""

from __future__ import annotations

import math
from math import log2

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from ranking import metrics
from ranking.metrics import (
    average_precision,
    bootstrap_interval,
    expected_calibration_error,
    group_share_at_k,
    log_loss,
    ndcg_at_k,
    normalized_entropy,
    paired_bootstrap_interval,
    predicted_over_actual,
    recall_at_k,
    reciprocal_rank,
    roc_auc,
)

seeds = st.integers(0, 2**32 - 1)
REL = np.array([3.0, 2.0, 3.0, 0.0, 1.0, 2.0])
BEST_FIRST = np.arange(6, 0, -1).astype(float)


def test_ndcg_of_a_known_list() -> None:
    """Relevances 3 2 3 0 1 2 as ranked: the sum of rel / log2(rank + 1) over that of 3 3 2 2 1 0, and the same with 2^rel - 1."""
    ideal = [3, 3, 2, 2, 1, 0]
    linear = sum(r / log2(t + 2) for t, r in enumerate(REL)) / sum(r / log2(t + 2) for t, r in enumerate(ideal))
    assert ndcg_at_k(BEST_FIRST, REL) == pytest.approx(linear)
    assert linear == pytest.approx(0.960808, abs=1e-6)
    exponential = sum((2**r - 1) / log2(t + 2) for t, r in enumerate(REL)) / sum((2**r - 1) / log2(t + 2) for t, r in enumerate(ideal))
    assert ndcg_at_k(BEST_FIRST, REL, gain="exponential") == pytest.approx(exponential)
    assert exponential == pytest.approx(0.948811, abs=1e-6)


def test_ties_stand_in_input_order() -> None:
    """A positive second in a tie of two counts 1 / log2(3): not the .815465 of averaging over the tie, nor 1."""
    assert ndcg_at_k(np.array([1.0, 1.0]), np.array([0.0, 1.0])) == pytest.approx(1 / log2(3))
    assert ndcg_at_k(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == 1.0


def test_positives_lost_in_retrieval_still_count() -> None:
    """With `ideal_gains` the best possible list is that of everything relevant, whether it was retrieved or not."""
    scores, gains, everything = np.array([2.0, 1.0]), np.array([1.0, 0.0]), np.array([1.0, 0.0, 1.0, 1.0])
    assert ndcg_at_k(scores, gains) == 1.0
    assert ndcg_at_k(scores, gains, ideal_gains=everything) == pytest.approx(1 / (1 + 1 / log2(3) + 1 / log2(4)))
    assert ndcg_at_k(scores, gains, k=2, ideal_gains=everything) == pytest.approx(1 / (1 + 1 / log2(3)))
    assert recall_at_k(scores, gains, k=2, ideal_gains=everything) == pytest.approx(1 / 3)
    assert average_precision(scores, gains, ideal_gains=everything) == pytest.approx(1 / 3)
    assert reciprocal_rank(np.array([2.0]), np.array([0.0]), ideal_gains=everything) == 0.0


@given(seeds)
def test_ndcg_equals_scikit_learn_where_nothing_ties(seed: int) -> None:
    """Without ties, linear gain at any k is scikit-learn's."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    scores, gains, k = rng.permutation(n).astype(float), rng.integers(0, 4, n).astype(float), int(rng.integers(1, n + 3))
    ours = ndcg_at_k(scores, gains, k=k)
    assert ours == pytest.approx(sklearn.metrics.ndcg_score([gains], [scores], k=k)) if gains.any() else math.isnan(ours)


@given(seeds)
def test_pooled_metrics_equal_scikit_learn(seed: int) -> None:
    """AUC (ties count half), log loss and, without ties, average precision are scikit-learn's."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 60))
    labels = np.concatenate([[0, 1], rng.integers(0, 2, n)])
    tied, distinct = rng.integers(1, 9, n + 2) / 10, rng.permutation(np.arange(1, n + 3)) / (n + 4)
    assert roc_auc(tied, labels) == pytest.approx(sklearn.metrics.roc_auc_score(labels, tied))
    assert log_loss(tied, labels) == pytest.approx(sklearn.metrics.log_loss(labels, tied))
    assert average_precision(distinct, labels.astype(float)) == pytest.approx(sklearn.metrics.average_precision_score(labels, distinct))


def test_rank_metrics_of_a_small_list() -> None:
    """Positives at ranks 2 and 4 of five: RR 1/2, AP (1/2 + 2/4) / 2, recall at 3 one of two."""
    scores, gains = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0, 0.0])
    assert reciprocal_rank(scores, gains) == 1 / 2
    assert reciprocal_rank(scores, gains, k=1) == 0.0
    assert average_precision(scores, gains) == (1 / 2 + 2 / 4) / 2
    assert average_precision(scores, gains, k=3) == (1 / 2) / 2
    assert recall_at_k(scores, gains, k=3) == 1 / 2
    assert group_share_at_k(scores, np.array([0, 1, 1, 0, 1]), group=1, k=3) == 2 / 3


@pytest.mark.parametrize("name", ["ndcg_at_k", "recall_at_k", "reciprocal_rank", "average_precision"])
def test_list_metrics_share_their_call_and_their_limits(name: str) -> None:
    """Each is metric(scores, gains, k=…): 1 for a perfect list, NaN without a positive, and wrong arguments named."""
    metric = getattr(metrics, name)
    scores, gains = np.array([2.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    assert metric(scores, gains, k=2) == 1.0
    assert metric(scores, gains, k=99) == 1.0
    assert math.isnan(metric(scores, np.zeros(3), k=2))
    assert math.isnan(metric(np.array([]), np.array([])))
    with pytest.raises(ValueError, match=r"^k: "):
        metric(scores, gains, k=0)
    with pytest.raises(ValueError, match=r"^gains: "):
        metric(scores, gains[:2])
    with pytest.raises(ValueError, match=r"^scores: "):
        metric(np.array([1.0, np.nan, 0.0]), gains)


@given(seeds)
def test_list_metrics_are_within_zero_and_one(seed: int) -> None:
    """Every list metric of every list with a positive is in [0, 1]."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 20))
    scores, gains = rng.integers(0, 5, n).astype(float), rng.integers(0, 3, n).astype(float)
    gains[rng.integers(n)] = 1.0
    for metric in (ndcg_at_k, recall_at_k, reciprocal_rank, average_precision):
        assert 0.0 <= metric(scores, gains, k=int(rng.integers(1, n + 1))) <= 1.0 + 1e-12


def test_a_single_class_has_no_auc_and_no_normalized_entropy() -> None:
    """Where only one thing ever happened there is nothing to tell apart: NaN, not a number that looks good."""
    for labels in (np.zeros(3), np.ones(3)):
        assert math.isnan(roc_auc(np.array([0.1, 0.2, 0.3]), labels))
        assert math.isnan(normalized_entropy(np.array([0.1, 0.2, 0.3]), labels))


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    """A probability of 0 for what happened costs -ln(1e-15), not infinity."""
    assert log_loss(np.array([0.0]), np.array([1])) == pytest.approx(-math.log(1e-15))
    assert log_loss(np.array([1.0, 0.0]), np.array([1, 0])) == pytest.approx(0.0, abs=1e-14)


def test_normalized_entropy_of_the_base_rate_is_one() -> None:
    """Always saying the rate is exactly as good as knowing only the rate."""
    labels = np.array([1, 0, 0, 0])
    assert normalized_entropy(np.full(4, 0.25), labels) == pytest.approx(1.0)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert normalized_entropy(np.array([0.9, 0.1, 0.1, 0.1]), labels) == pytest.approx(-math.log(0.9) / entropy)


def test_calibration_error_of_hand_made_bins() -> None:
    """Two bins of two: |.2 - 1/2| and |.8 - 1|, each weighing one half."""
    p, y = np.array([0.8, 0.2, 0.2, 0.8]), np.array([1, 0, 1, 1])
    assert expected_calibration_error(p, y, bins=2) == pytest.approx(0.5 * abs(0.2 - 0.5) + 0.5 * abs(0.8 - 1.0))
    assert expected_calibration_error(p, y, bins=1) == pytest.approx(abs(0.5 - 0.75))
    assert predicted_over_actual(p, y) == pytest.approx(2.0 / 3.0)


@given(seeds)
def test_calibration_error_does_not_depend_on_input_order(seed: int) -> None:
    """Tied probabilities share a bin, so shuffling the rows changes nothing."""
    rng = np.random.default_rng(seed)
    p, y = rng.integers(0, 6, 50) / 5, rng.integers(0, 2, 50)
    shuffled = rng.permutation(50)
    assert expected_calibration_error(p, y) == pytest.approx(expected_calibration_error(p[shuffled], y[shuffled]))


def test_a_constant_at_the_base_rate_is_calibrated() -> None:
    """Saying the rate to everyone has no calibration error, however many bins are asked for."""
    assert expected_calibration_error(np.full(10, 0.3), np.array([1] * 3 + [0] * 7), bins=10) == pytest.approx(0.0)


def test_nothing_happened_means_an_infinite_ratio() -> None:
    """Predicted over actual with no positive is infinite: anything promised was too much."""
    assert predicted_over_actual(np.array([0.1]), np.array([0])) == math.inf


@pytest.mark.parametrize("metric", [log_loss, normalized_entropy, expected_calibration_error, predicted_over_actual])
def test_what_is_no_probability_is_refused(metric: object) -> None:
    """Values outside [0, 1], NaN and nothing at all are refused by name."""
    assert callable(metric)
    for p in ([1.5, 0.1], [np.nan, 0.1], []):
        with pytest.raises(ValueError, match=r"^probabilities: "):
            metric(np.array(p), np.zeros(len(p)))
    with pytest.raises(ValueError, match=r"^labels: "):
        metric(np.array([0.1, 0.2]), np.zeros(3))


def test_the_bootstrap_repeats_with_its_seed() -> None:
    """Equal seeds give equal intervals, other seeds others."""
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1)
    assert bootstrap_interval(values, 1) != bootstrap_interval(values, 2)


def test_the_bootstrap_interval_is_near_the_normal_one() -> None:
    """For a mean of many lists the 95 % interval is mean ± 1.96 standard errors, and wider at a higher level."""
    values = np.random.default_rng(0).normal(10.0, 2.0, 2000)
    value, low, high = bootstrap_interval(values, 3)
    error = values.std() / math.sqrt(len(values))
    assert value == pytest.approx(values.mean())
    assert low == pytest.approx(value - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(value + 1.96 * error, abs=0.3 * error)
    wider = bootstrap_interval(values, 3, level=0.99)
    assert wider.low < low < high < wider.high


def test_lists_that_say_nothing_are_left_out() -> None:
    """NaN values (lists without a positive) count neither way; with no other list the interval is NaN."""
    assert bootstrap_interval(np.array([0.5, np.nan, 0.5]), 0) == (0.5, 0.5, 0.5)
    assert all(math.isnan(v) for v in bootstrap_interval(np.array([np.nan]), 0))
    assert paired_bootstrap_interval(np.array([0.5, np.nan, 0.9]), np.array([0.4, 0.1, np.nan]), 0).value == pytest.approx(0.5 - 0.4)


def test_pairing_sees_a_small_difference_between_noisy_lists() -> None:
    """A constant gain of .01 on lists that vary by 1 is certain when paired and invisible when not."""
    theirs = np.random.default_rng(0).random(200)
    paired = paired_bootstrap_interval(theirs + 0.01, theirs, 0)
    assert paired.low == pytest.approx(0.01)
    apart = bootstrap_interval(theirs + 0.01, 0)
    assert apart.low < theirs.mean() < apart.high


def test_bootstrap_arguments_are_checked() -> None:
    """Draws below 1, a level that is no proportion and lists that do not pair are refused by name."""
    with pytest.raises(ValueError, match=r"^n: "):
        bootstrap_interval(np.ones(3), 0, n=0)
    with pytest.raises(ValueError, match=r"^level: "):
        bootstrap_interval(np.ones(3), 0, level=1.0)
    with pytest.raises(ValueError, match=r"^theirs: "):
        paired_bootstrap_interval(np.ones(3), np.ones(4), 0)
