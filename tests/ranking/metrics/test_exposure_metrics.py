"""AWRF and expected exposure."""

from __future__ import annotations

from itertools import permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from ranking.metrics import awrf, expected_exposure, exposure_disparity, exposure_loss, exposure_relevance, target_exposure

seeds = st.integers(0, 2**32 - 1)


def test_awrf_of_a_list_of_three() -> None:
    """Places are worth 1, 1 and 1 / log2(3); against all of it for one group the middle distribution is half-way."""
    third = 1 / log2(3)
    got = np.array([2.0, third]) / (2 + third)
    assert awrf(np.array([0, 0, 1]), got) == pytest.approx(1.0)
    wanted = np.array([1.0, 0.0])
    middle = (got + wanted) / 2
    divergence = 0.5 * (got * np.log2(got / middle)).sum() + 0.5 * log2(1 / middle[0])
    assert awrf(np.array([0, 0, 1]), wanted) == pytest.approx(1 - divergence)


def test_awrf_is_scipys_distance_squared() -> None:
    """1 - jensenshannon(exposure, shares, base 2)² on 2,000 random lists of 2 to 5 groups."""
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        g, k = int(rng.integers(2, 6)), int(rng.integers(1, 30))
        shown, shares = rng.integers(0, g, k), rng.dirichlet(np.ones(g))
        attention = [1 / log2(max(rank, 2)) for rank in range(1, k + 1)]
        exposure = [sum(a for a, c in zip(attention, shown, strict=True) if c == group) for group in range(g)]
        assert awrf(shown, shares) == pytest.approx(1 - jensenshannon(exposure, shares, base=2) ** 2, abs=1e-12)


@given(seeds)
def test_awrf_is_one_only_where_exposure_is_as_wanted(seed: int) -> None:
    """Within [0, 1]; 1 for its own exposure, less for any other target, 0 where nobody wanted is shown."""
    rng = np.random.default_rng(seed)
    shown = np.append(rng.integers(0, 3, rng.integers(1, 20)), [0, 1])
    attention = 1 / np.log2(np.maximum(np.arange(1, len(shown) + 1), 2))
    own = np.bincount(shown, attention, 3) / attention.sum()
    other = 0.9 * own + 0.1 * np.array([0.0, 0.0, 1.0])
    assert awrf(shown, own) == pytest.approx(1.0)
    assert 0.0 <= awrf(shown, other) < 1.0
    assert awrf(np.zeros(4, int), np.array([0.0, 1.0])) == pytest.approx(0.0)


def test_awrf_needs_a_distribution_and_a_list() -> None:
    """Shares that leave something over, and an empty list, are refused."""
    for shown, shares in (([0, 1], [0.5, 0.3]), ([], [0.5, 0.5])):
        with pytest.raises(ValueError, match=r"^awrf: "):
            awrf(np.array(shown, int), np.array(shares))


@given(seeds)
def test_loss_is_disparity_less_twice_relevance_and_a_constant(seed: int) -> None:
    """EE-L = EE-D - 2 EE-R + ‖ε*‖², for rankings of any distribution."""
    rng = np.random.default_rng(seed)
    items, rankings = int(rng.integers(1, 12)), int(rng.integers(1, 8))
    exposure = expected_exposure(np.array([rng.permutation(items) for _ in range(rankings)]), items)
    target = target_exposure(rng.integers(0, 3, items).astype(float), 1 / np.log2(np.arange(2, items + 2)))
    identity = exposure_disparity(exposure) - 2 * exposure_relevance(exposure, target) + float(target @ target)
    assert exposure_loss(exposure, target) == pytest.approx(identity, abs=1e-9)
    assert exposure_loss(exposure, target) >= 0.0
    assert exposure.sum() == pytest.approx(target.sum())


def test_the_target_is_the_mean_over_all_best_orders() -> None:
    """Gains 1 0 1 0 0: all orders with the two positives first, equally often, expose each grade alike, and so does the target."""
    gains, weights = np.array([1.0, 0.0, 1.0, 0.0, 0.0]), 0.5 ** np.arange(5)
    best = [order for order in permutations(range(5)) if gains[list(order[:2])].all()]
    wanted = expected_exposure(np.array(best), 5, weights)
    np.testing.assert_allclose(target_exposure(gains, weights), wanted)
    assert wanted[0] == pytest.approx((1 + 0.5) / 2)
    assert exposure_loss(wanted, target_exposure(gains, weights)) == pytest.approx(0.0)


def test_places_behind_the_page_are_worth_nothing() -> None:
    """With two places of weight and three positives each gets a third of them."""
    np.testing.assert_allclose(target_exposure(np.ones(3), np.array([1.0, 0.5])), np.full(3, 0.5))
