"""The discovery methods' score matrices against their formulas written out densely."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from training.discovery import factorise
from training.discovery.item2vec import PAIRS, information
from training.discovery.low_rank import low_rank
from training.discovery.neighbours import ACROSS, DAMPING, GROUP, WITHIN, co_purchase_scores, nearest, personal_frequency
from training.discovery.spectral import ease_scores, profiles
from training.discovery.types import RARE, Purchases

SEEDS = st.integers(0, 2**32 - 1)


def _purchases(seed: int, users: int = 20, items: int = 15, lines: int = 200) -> Purchases:
    rng = np.random.default_rng(seed)
    ages = rng.integers(1, 9, lines).astype(float)
    return Purchases(rng.integers(0, users, lines), rng.integers(0, items, lines), ages, (users, items))


@given(SEEDS, st.floats(0.5, 500))
@settings(max_examples=30, deadline=None)
def test_ease_over_users_is_ease_over_items(seed: int, ridge: float) -> None:
    """The dual scores are the primal closed form X (1 - P / diag P), P = (X'X + λ)^-1, and so is their transpose."""
    x = (np.random.default_rng(seed).random((12, 9)) < 0.4).astype(np.float32)
    inverse = np.linalg.inv((x.T @ x).astype(np.float64) + ridge * np.eye(9))
    weights = np.eye(9) - inverse / np.diag(inverse)
    scores = ease_scores(csr_matrix(x), ridge)
    np.testing.assert_allclose(scores @ np.eye(9, dtype=np.float32), x @ weights, atol=2e-4)
    np.testing.assert_allclose(scores.T @ np.eye(12, dtype=np.float32), (x @ weights).T, atol=2e-4)


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_factors_are_the_truncated_svd(seed: int, width: int) -> None:
    """On a matrix no larger than the sketch, the factors' product is numpy's truncated SVD."""
    matrix = np.random.default_rng(seed).standard_normal((14, 10)).astype(np.float32)
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    factors = low_rank(matrix, width, 0)
    np.testing.assert_allclose(factors.users @ factors.items.T, (left[:, :width] * values[:width]) @ right[:width], atol=1e-3)
    np.testing.assert_allclose(factors.items.T @ factors.items, np.eye(width), atol=1e-3)


def test_factors_of_a_wide_matrix_are_nearly_the_truncated_svd() -> None:
    """With a spectrum that falls as slowly as 1 / rank, the sketch loses less than a hundredth of what truncation must lose."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((n, 150)))[0] for n in (150, 300))
    values = 1 / np.arange(1, 151)
    matrix = ((left * values) @ right.T).astype(np.float32)
    factors = low_rank(matrix, 20, 0)
    lost = np.linalg.norm(matrix - factors.users @ factors.items.T)
    assert lost < 1.01 * np.sqrt((values[20:] ** 2).sum())


def test_svd_is_numpys() -> None:
    """Scores of `svd` are the truncated SVD of the users' profiles, and a profile is log(1 + count) log(U / buyers), of length 1."""
    p = _purchases(1)
    counts = np.zeros(p.shape)
    np.add.at(counts, (p.users, p.items), 1)
    buyers = (counts > 0).sum(axis=0)
    assert (buyers >= RARE).all()
    dense = np.log1p(counts) * np.log(p.shape[0] / buyers)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    np.testing.assert_allclose(profiles(p).toarray(), dense, atol=1e-6)
    left, values, right = np.linalg.svd(dense)
    factors = factorise("svd", p.users, p.items, p.ages, shape=p.shape, width=5, seed=3)
    np.testing.assert_allclose(factors.users @ factors.items.T, (left[:, :5] * values[:5]) @ right[:5], atol=1e-4)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_baskets_are_lines_of_one_user_at_one_age(seed: int) -> None:
    """Two lines share a basket exactly when user and age agree; codes are dense and run from a user's oldest basket to the newest."""
    p = _purchases(seed)
    same = p.baskets[:, None] == p.baskets[None]
    np.testing.assert_array_equal(same, (p.users[:, None] == p.users[None]) & (p.ages[:, None] == p.ages[None]))
    assert set(p.baskets.tolist()) == set(range(p.baskets.max() + 1))
    order = np.argsort(p.baskets)
    assert (np.diff(p.users[order]) >= 0).all()
    within = np.diff(p.users[order]) == 0
    assert (np.diff(p.ages[order])[within] <= 0).all()


def test_personal_frequency_decays_by_basket_and_by_group() -> None:
    """Nine baskets make a group of the seven newest and one of two; each is a decayed mean, and so is their union."""
    ages = np.arange(1.0, 10.0)  # basket b is b baskets back, and holds item b alone
    p = Purchases(np.zeros(9, np.int64), np.arange(9), ages, (2, 9))
    assert GROUP == 7
    newer = [WITHIN**back / 7 / 2 for back in range(7)]
    older = [ACROSS * WITHIN**back / 2 / 2 for back in range(2)]
    np.testing.assert_allclose(personal_frequency(p).toarray(), [newer + older, [0] * 9], rtol=1e-6)


def test_only_the_nearest_have_a_say() -> None:
    """Of three others the two most similar share the weight by similarity; a user like nobody has no neighbours."""
    rows = csr_matrix(np.array([[1, 0], [0.9, 0], [0.3, 0], [0.1, 0.0], [0, 0]], np.float32))
    weights = nearest(rows, 2)
    np.testing.assert_allclose(weights[0], [0, 0.9 / 1.2, 0.3 / 1.2, 0, 0], rtol=1e-6)
    assert not weights[4].any()


@pytest.mark.parametrize("seed", range(5))
def test_co_purchase_is_the_damped_basket_cosine(seed: int) -> None:
    """Scores are log(1 + count) over the user's items times baskets in common, each over the root of its size, over the roots of the
    damped basket counts; an item is no evidence for itself."""
    p = _purchases(seed)
    baskets = np.zeros((p.baskets.max() + 1, p.shape[1]))
    baskets[p.baskets, p.items] = 1
    counts = np.zeros(p.shape)
    np.add.at(counts, (p.users, p.items), 1)
    common = np.einsum("bi,bj,b->ij", baskets, baskets, 1 / np.sqrt(baskets.sum(axis=1)))
    roots = np.sqrt(baskets.sum(axis=0) + DAMPING)
    cosine = common / np.outer(roots, roots)
    np.fill_diagonal(cosine, 0)
    scores = co_purchase_scores(p)
    np.testing.assert_allclose(scores @ np.eye(p.shape[1], dtype=np.float32), np.log1p(counts) @ cosine, atol=1e-4)
    np.testing.assert_allclose(scores.T @ np.eye(p.shape[0], dtype=np.float32), (np.log1p(counts) @ cosine).T, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_item_information_is_positive_pointwise_mutual_information(seed: int) -> None:
    """An entry is log p(i, j) / (p(i) p(j)) over pairs of different items met in at least two baskets, and 0 where that is negative."""
    p = _purchases(seed, users=6, lines=150)
    assert (p.buyers >= RARE).all()
    baskets = np.zeros((p.baskets.max() + 1, p.shape[1]))
    baskets[p.baskets, p.items] = 1
    together = baskets.T @ baskets
    np.fill_diagonal(together, 0)
    together[together < PAIRS] = 0
    pair = together / together.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        mutual = np.log(pair / np.outer(pair.sum(axis=0), pair.sum(axis=0)))
    np.testing.assert_allclose(information(p).toarray(), np.where(together > 0, np.maximum(mutual, 0), 0), atol=1e-5)
    assert together.any()
