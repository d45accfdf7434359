"""What each group got on one list."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.exposure import exposure_report
from ranking.floors import rank_by_score, rank_with_floors


def test_a_worked_example() -> None:
    """Counts and discounted shares before and after, derived by hand for three places."""
    groups = np.array([0, 0, 1, 1, 0])
    head, tail = exposure_report(np.array([0, 1, 4]), np.array([0, 2, 1]), groups, ("head", "tail"), (0.0, 0.4), (0, 0))
    total = 1 / log2(2) + 1 / log2(3) + 1 / log2(4)
    assert (head.group, head.candidates, head.count, head.count_before, head.target_share) == ("head", 3, 2, 3, 0.0)
    assert (tail.group, tail.candidates, tail.count, tail.count_before, tail.target_share) == ("tail", 2, 1, 0, 0.4)
    assert head.exposure == pytest.approx((1 / log2(2) + 1 / log2(4)) / total)
    assert tail.exposure == pytest.approx((1 / log2(3)) / total)
    assert (head.exposure_before, tail.exposure_before) == (pytest.approx(1.0), 0.0)


@given(st.integers(0, 2**32 - 1))
def test_shares_sum_to_one_and_counts_to_k(seed: int) -> None:
    """Exposure is a partition of the list: over all groups it sums to 1, counts to k, candidates to n."""
    rng = np.random.default_rng(seed)
    n, k = 30, int(rng.integers(1, 30))
    scores, groups, shares = rng.random(n), rng.integers(0, 3, n), np.array([0.0, 0.3, 0.2])
    fair = rank_with_floors(scores, groups, shares, k)
    report = exposure_report(rank_by_score(scores, k), fair.order, groups, ("a", "b", "c"), shares, fair.shortfall)
    assert sum(g.exposure for g in report) == pytest.approx(1.0)
    assert sum(g.exposure_before for g in report) == pytest.approx(1.0)
    assert sum(g.count for g in report) == sum(g.count_before for g in report) == k
    assert sum(g.candidates for g in report) == n
    assert [g.shortfall for g in report] == fair.shortfall.tolist()


def test_an_empty_list_exposes_nobody() -> None:
    """With no results every share is 0, not NaN."""
    none = np.array([], np.int64)
    (group,) = exposure_report(none, none, np.array([], np.int64), ("a",), (0.5,), (0,))
    assert (group.exposure, group.exposure_before, group.count, group.candidates) == (0.0, 0.0, 0, 0)


def test_lists_of_different_lengths_are_refused() -> None:
    """Before and after must be the same list cut at the same place, and each group needs a name, a target and a shortfall."""
    with pytest.raises(ValueError, match=r"^before, after: .* got 2 and 1"):
        exposure_report(np.array([0, 1]), np.array([0]), np.array([0, 0]), ("a",), (0.0,), (0,))
    with pytest.raises(ValueError, match=r"^names, targets, shortfall: .* got 2, 1 and 2"):
        exposure_report(np.array([0]), np.array([0]), np.array([0]), ("a", "b"), (0.0,), (0, 0))
