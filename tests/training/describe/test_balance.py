from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.metrics import gini
from training.describe.measures import balance, imbalance_ratio, lorenz

counts_lists = st.lists(st.integers(0, 1000), min_size=1, max_size=60)


def test_a_small_case_by_hand() -> None:
    """Five things with 10, 4, 1, 1 and 0: one of five is the head."""
    b = balance(np.array([1, 10, 0, 4, 1]))
    assert (b.things, b.total, b.untouched) == (5, 16, 1)
    assert b.imbalance_ratio == 10 / 1
    assert b.head_share == 10 / 16
    assert b.tail_share == 1 - 10 / 16
    assert b.ranked.tolist() == [10, 4, 1, 1, 0]


@given(counts_lists)
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    """For all counts the sorted formula equals the definition over all pairs, and lies in [0, 1)."""
    x = np.array(counts, np.float64)
    wanted = np.mean(np.abs(x[:, None] - x[None, :])) / (2 * x.mean()) if x.sum() else 0.0
    assert gini(np.array(counts)) == pytest.approx(wanted, abs=1e-12)
    assert -1e-12 <= gini(np.array(counts)) < 1.0


@given(counts_lists)
def test_equal_counts_are_balance_and_order_is_nothing(counts: list[int]) -> None:
    """Equal counts have ratio 1 and Gini 0; any order of the counts measures the same."""
    level = np.full(len(counts), 5)
    assert imbalance_ratio(level) == 1.0
    assert gini(level) == pytest.approx(0.0)
    one, two = balance(np.array(counts)), balance(np.array(counts[::-1]))
    assert (one.gini, one.head_share, one.imbalance_ratio) == (two.gini, two.head_share, two.imbalance_ratio)


@given(counts_lists)
def test_the_curve_ends_with_everything_and_never_falls_behind_balance(counts: list[int]) -> None:
    """The most frequent share has at least its share, and all have all."""
    things, total = lorenz(balance(np.array(counts)).ranked, points=10)
    if sum(counts):
        assert (things[0], total[0], things[-1], total[-1]) == (0.0, 0.0, 1.0, 1.0)
        assert np.all(total >= things - 1e-12)


def test_nothing_counted_is_no_imbalance() -> None:
    """Things nobody touched: every share is 0, nothing is divided by nothing."""
    b = balance(np.zeros(3, np.int64))
    assert (b.imbalance_ratio, b.head_share, b.tail_share, b.gini, b.untouched) == (0.0, 0.0, 0.0, 0.0, 3)
