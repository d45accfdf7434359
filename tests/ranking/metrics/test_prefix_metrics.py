"""Skew, NDKL and the infeasible index."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from ranking.metrics import awrf, infeasible_index, max_skew, min_skew, ndkl, skew

HALF = np.array([0.5, 0.5])


def test_skew_is_the_log_of_got_over_wanted() -> None:
    """Three of four places where two were wanted, and one where two were; nothing is said of a group nothing is wanted of."""
    shown = np.array([0, 0, 1, 0])
    assert skew(shown, HALF) == pytest.approx([math.log(0.75 / 0.5), math.log(0.25 / 0.5)])
    assert max_skew(shown, HALF) == pytest.approx(math.log(1.5))
    assert min_skew(shown, HALF) == pytest.approx(-math.log(2))
    assert min_skew(shown, np.array([0.5, 0.3, 0.2])) == -math.inf
    assert math.isnan(skew(shown, np.array([0.5, 0.5, 0.0]))[2])
    assert max_skew(shown, np.array([0.5, 0.5, 0.0])) == pytest.approx(math.log(1.5))


def test_ndkl_weighs_prefixes_by_their_length() -> None:
    """Of the list a, b the first prefix is ln 2 away from one half each, the second 0."""
    first, second = 1 / math.log2(2), 1 / math.log2(3)
    assert ndkl(np.array([0, 1]), HALF) == pytest.approx(math.log(2) * first / (first + second))
    assert ndkl(np.zeros(5, int), np.array([1.0])) == 0.0
    assert ndkl(np.array([0, 1]), np.array([1.0, 0.0])) == math.inf


def test_ndkl_needs_a_distribution_and_a_list() -> None:
    """Floors that sum to less than 1 are no target to measure a divergence from."""
    with pytest.raises(ValueError, match=r"^ndkl: "):
        ndkl(np.array([0, 1]), np.array([0.5, 0.3]))
    with pytest.raises(ValueError, match=r"^ndkl: "):
        ndkl(np.array([], int), HALF)


def test_infeasible_index_counts_prefixes() -> None:
    """Of a, a, a, b the prefixes of 2, 3 and 4 hold 0, 0 and 1 of b where 1, 1 and 2 are its floor."""
    assert infeasible_index(np.array([0, 0, 0, 1]), HALF) == 3
    assert infeasible_index(np.array([0, 1, 0, 1]), HALF) == 0
    assert infeasible_index(np.array([0, 0, 0, 1]), np.array([0.5, 0.25])) == 0


def test_floors_are_not_lost_to_binary_rounding() -> None:
    """.57 · 100 is 56.99999999999999 in binary, and its floor 57 places."""
    shown = np.repeat([1, 0], [44, 56])
    assert infeasible_index(shown, np.array([0.57, 0.0])) > infeasible_index(np.repeat([0, 1], [57, 43]), np.array([0.57, 0.0])) == 0
    assert infeasible_index(np.array([0] * 56 + [1] * 44), np.array([0.57, 0.0])) == 1


@pytest.mark.parametrize("metric", [ndkl, infeasible_index, skew, min_skew, max_skew, awrf])
@pytest.mark.parametrize("code", [2, -1])
def test_a_group_without_a_share_is_refused(metric: Callable[..., object], code: int) -> None:
    """A code that the shares say nothing of would drop out of every count."""
    with pytest.raises(ValueError, match=rf"^shown: groups must be codes in \[0, 2\), one per share, got {min(code, 0)} to {max(code, 1)}"):
        metric(np.array([0, 1, code]), HALF)
