"""How two rankings of the same candidates differ, in numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.difference import PLACES, Difference, difference, tier_shares

ORDERS = st.integers(1, 30).flatmap(lambda n: st.permutations(range(n)))


@given(ORDERS)
def test_a_ranking_does_not_differ_from_itself(order: list[int]) -> None:
    """All of it overlaps, and where there are two places to compare they agree."""
    o, p = np.array(order), np.linspace(0.1, 0.9, len(order))
    found = difference(o, p, o, p)
    assert (found.overlap, found.probability, found.shift) == (1.0, 0.0, 0.0)
    assert found.correlation == (1.0 if len(o) > 1 else pytest.approx(np.nan, nan_ok=True))


def test_a_reversed_ranking() -> None:
    """Twelve items turned round: eight of the first ten are the same, the places are opposite."""
    o, p = np.arange(12), np.full(12, 0.5)
    assert difference(o, p, o[::-1], p + 0.25) == Difference(8 / PLACES, -1.0, 0.25, 0.25)


def test_pages_that_share_some_results() -> None:
    """Of pages [0 1 2] and [2 3 0] two results are common, in opposite order; one rose by .2, one fell by .1."""
    found = difference(np.array([0, 1, 2]), np.array([0.5, 0.4, 0.3]), np.array([2, 3, 0]), np.array([0.5, 0.45, 0.4]))
    assert found.overlap == 2 / 3
    assert found.correlation == -1.0
    assert found.probability == pytest.approx((0.2 + 0.1) / 2)
    assert found.shift == pytest.approx((0.2 - 0.1) / 2)


def test_nothing_in_common_is_nothing_to_say() -> None:
    """Pages without a common result, or without any, have no correlation and no change of probability."""
    none, one, other = np.array([], int), np.array([0]), np.array([1])
    apart = difference(one, np.array([0.5]), other, np.array([0.5]))
    assert apart.overlap == 0.0
    assert np.isnan([apart.correlation, apart.probability, apart.shift]).all()
    empty = difference(none, np.array([]), none, np.array([]))
    assert np.isnan([empty.overlap, empty.correlation, empty.probability, empty.shift]).all()


def test_tiers_of_the_top() -> None:
    """Only the first ten count: here seven of the head, three of the tail, none new."""
    tiers = np.array([0] * 7 + [1] * 3 + [2] * 5, np.int8)
    assert tier_shares(tiers, np.arange(15)) == (0.7, 0.3, 0.0)
    assert tier_shares(tiers, np.array([14, 0])) == (0.5, 0.0, 0.5)
    assert np.isnan(tier_shares(tiers, np.array([], int))).all()
