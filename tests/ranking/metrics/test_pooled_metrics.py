"""Intervals of pooled metrics: sums of lists re-weighed instead of rows copied."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking import metrics
from ranking.metrics import bootstrap_interval, interval_of_draws, list_draws, reliability_curve

PAIRS = {
    "predicted_over_actual_of_draws": metrics.predicted_over_actual,
    "normalized_entropy_of_draws": metrics.normalized_entropy,
    "roc_auc_of_draws": metrics.roc_auc,
}
seeds = st.integers(0, 2**32 - 1)


def rows(seed: int, lists: int = 8, per_list: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities with ties, labels they explain a little, the list of each row."""
    rng = np.random.default_rng(seed)
    p = rng.integers(1, 20, lists * per_list) / 20
    return p, (rng.random(len(p)) < p).astype(int), np.repeat(np.arange(lists), per_list)


@pytest.mark.parametrize("name", list(PAIRS))
@given(seed=seeds)
def test_a_draw_is_the_metric_of_the_rows_it_drew(name: str, seed: int) -> None:
    """Copying the rows of every drawn list and measuring gives the same, draw by draw."""
    p, y, of_list = rows(seed)
    draws = list_draws(8, seed, n=5)
    got = getattr(metrics, name)(p, y, of_list, draws)
    for value, times in zip(got, draws.astype(int), strict=True):
        copied = np.repeat(np.arange(len(p)), times[of_list])
        labels = y[copied]
        if 0 < labels.sum() < len(labels):
            assert value == pytest.approx(PAIRS[name](p[copied], labels))


@given(seed=seeds)
def test_calibration_error_keeps_the_bins_of_the_whole(seed: int) -> None:
    """Drawing every list once is the metric itself, and doubling all changes nothing."""
    p, y, of_list = rows(seed)
    once = metrics.calibration_error_of_draws(p, y, of_list, np.array([[1.0] * 8, [2.0] * 8]))
    assert once == pytest.approx([metrics.expected_calibration_error(p, y)] * 2)


def test_auc_of_many_distinct_scores_is_near_exact() -> None:
    """With 5,000 positives only 500 levels are told apart: off by less than the thousandth that ties can cost."""
    rng = np.random.default_rng(0)
    y = rng.random(20_000) < 0.25
    scores, of_list = rng.normal(size=20_000) + y, np.repeat(np.arange(20), 1000)
    got = metrics.roc_auc_of_draws(scores, y, of_list, np.ones((1, 20)))[0]
    assert got == pytest.approx(metrics.roc_auc(scores, y), abs=1e-3)


@pytest.mark.parametrize("name", [*PAIRS, "calibration_error_of_draws"])
def test_lists_without_chosen_rows_count_for_nothing(name: str) -> None:
    """A tier's rows may be absent from a list; a draw of only such lists is NaN."""
    p, y, of_list = np.array([0.2, 0.7, 0.4]), np.array([0, 1, 0]), np.array([1, 1, 1])
    got = getattr(metrics, name)(p, y, of_list, np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert np.isfinite(got[0])
    assert np.isnan(got[1])


def test_draws_draw_as_many_lists_as_there_are() -> None:
    """Each row of `list_draws` sums to the lists; equal seeds draw equally; none is refused."""
    draws = list_draws(30, 4, n=50)
    assert draws.shape == (50, 30)
    assert (draws.sum(axis=1) == 30).all()
    assert (draws == list_draws(30, 4, n=50)).all()
    with pytest.raises(ValueError, match=r"^n: "):
        list_draws(30, 4, n=0)


def test_both_bootstraps_agree_on_a_mean() -> None:
    """The mean of lists of one length is a pooled ratio too: the two ways of drawing give the same interval within their noise."""
    values = np.random.default_rng(0).normal(5.0, 1.0, 300)
    one = bootstrap_interval(values, 1, n=2000)
    other = interval_of_draws(float(values.mean()), list_draws(300, 1, n=2000) @ values / 300)
    error = values.std() / np.sqrt(300)
    assert other == pytest.approx(one, abs=0.2 * error)


def test_draws_without_a_value_are_left_out() -> None:
    """Infinite and NaN draws count neither way; with none left the ends are NaN, the value stays."""
    assert interval_of_draws(1.0, np.array([np.nan, 2.0, np.inf])) == (1.0, 2.0, 2.0)
    value, low, high = interval_of_draws(1.0, np.array([np.nan]))
    assert (value, np.isnan(low), np.isnan(high)) == (1.0, True, True)


@given(seed=seeds, bins=st.integers(1, 12))
def test_the_reliability_curve_carries_the_calibration_error(seed: int, bins: int) -> None:
    """Its points are means of disjoint bins in rising order, and their weighted distance from the diagonal is the error."""
    p, y, _ = rows(seed)
    curve = reliability_curve(p, y, bins=bins)
    assert curve.rows.sum() == len(p)
    assert (np.diff(curve.predicted) > 0).all()
    assert curve.predicted @ curve.rows == pytest.approx(p.sum())
    assert curve.observed @ curve.rows == pytest.approx(y.sum())
    error = np.abs(curve.predicted - curve.observed) @ curve.rows / len(p)
    assert error == pytest.approx(metrics.expected_calibration_error(p, y, bins=bins))


def test_bins_must_be_some() -> None:
    """No bin holds no row."""
    with pytest.raises(ValueError, match=r"^bins: "):
        reliability_curve(np.array([0.5]), np.array([1]), bins=0)
