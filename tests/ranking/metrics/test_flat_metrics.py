"""Metrics of many lists at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking import metrics
from ranking.metrics import ndcg_at_k, ndcg_of_lists, share_of_lists, top_of_lists

PAIRS = {
    "ndcg_of_lists": "ndcg_at_k",
    "recall_of_lists": "recall_at_k",
    "precision_of_lists": "precision_at_k",
    "reciprocal_rank_of_lists": "reciprocal_rank",
    "average_precision_of_lists": "average_precision",
}
seeds = st.integers(0, 2**32 - 1)


def flat_lists(seed: int, graded: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, gains, offsets of 0 to 12 lists of 0 to 15 rows; some without a positive."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 16, rng.integers(1, 13))
    n = int(lengths.sum())
    gains = rng.integers(0, 4, n) * (rng.random(n) < 0.4) if graded else rng.random(n) < 0.3
    return rng.integers(0, 6, n).astype(float), gains.astype(float), np.concatenate([[0], np.cumsum(lengths)])


@pytest.mark.parametrize("name", list(PAIRS))
@given(seed=seeds, k=st.integers(1, 20))
def test_all_lists_at_once_are_each_list_alone(name: str, seed: int, k: int) -> None:
    """For every metric, with and without positives lost in retrieval, and with places chosen beforehand for a larger k."""
    scores, gains, offsets = flat_lists(seed)
    spans = [slice(a, b) for a, b in pairwise(offsets)]
    lost = np.random.default_rng(seed).integers(0, 3, len(spans))
    ideal = np.array([int(gains[s].sum()) for s in spans]) + lost
    of_lists, of_one = getattr(metrics, name), getattr(metrics, PAIRS[name])
    alone = [of_one(scores[s], gains[s], k=k) for s in spans]
    np.testing.assert_allclose(of_lists(scores, gains, offsets, k=k), alone, rtol=1e-12)
    np.testing.assert_allclose(of_lists(scores, gains, offsets, k=k, top=top_of_lists(scores, offsets, k + 3)), alone, rtol=1e-12)
    alone = [of_one(scores[s], gains[s], k=k, ideal_gains=np.ones(m)) for s, m in zip(spans, ideal, strict=True)]
    np.testing.assert_allclose(of_lists(scores, gains, offsets, k=k, ideal=ideal), alone, rtol=1e-12)


@given(seed=seeds, k=st.integers(1, 20), gain=st.sampled_from(["linear", "exponential"]))
def test_graded_gains_of_both_kinds(seed: int, k: int, gain: str) -> None:
    """NDCG of graded lists equals that of each list, in linear and exponential gain."""
    scores, gains, offsets = flat_lists(seed, graded=True)
    alone = [ndcg_at_k(scores[a:b], gains[a:b], k=k, gain=gain) for a, b in pairwise(offsets)]
    np.testing.assert_allclose(ndcg_of_lists(scores, gains, offsets, k=k, gain=gain), alone, rtol=1e-12)


@given(seed=seeds, k=st.integers(1, 20))
def test_share_of_places(seed: int, k: int) -> None:
    """The share of a group in all lists is its share in each; an empty list has none."""
    scores, _, offsets = flat_lists(seed)
    groups = np.random.default_rng(seed).integers(0, 3, len(scores))
    alone = [metrics.group_share_at_k(scores[a:b], groups[a:b], group=1, k=k) for a, b in pairwise(offsets)]
    np.testing.assert_allclose(share_of_lists(scores, groups == 1, offsets, k=k), alone)


@given(seed=seeds, k=st.integers(1, 20))
def test_ndcg_sees_only_the_order(seed: int, k: int) -> None:
    """Any increasing transform of the scores leaves NDCG as it is."""
    scores, gains, offsets = flat_lists(seed)
    before = ndcg_of_lists(scores, gains, offsets, k=k)
    np.testing.assert_array_equal(ndcg_of_lists(np.exp(scores / 3) - 7, gains, offsets, k=k), before)


def test_short_lists_leave_places_empty() -> None:
    """Ties stand in input order, and what a list lacks is -1."""
    top = top_of_lists(np.array([1.0, 5.0, 5.0, 2.0]), np.array([0, 3, 3, 4]), 4)
    assert top.tolist() == [[1, 2, 0, -1], [-1, -1, -1, -1], [3, -1, -1, -1]]


def test_wrong_arguments_are_named() -> None:
    """Offsets that miss rows, places chosen for fewer, NaN scores and k = 0 are refused by name."""
    scores, gains, offsets = np.arange(4.0), np.ones(4), np.array([0, 2, 4])
    with pytest.raises(ValueError, match=r"^offsets: "):
        top_of_lists(scores, np.array([0, 3]), 1)
    with pytest.raises(ValueError, match=r"^top: "):
        ndcg_of_lists(scores, gains, offsets, k=3, top=top_of_lists(scores, offsets, 2))
    with pytest.raises(ValueError, match=r"^scores: "):
        ndcg_of_lists(np.full(4, np.nan), gains, offsets, k=3)
    with pytest.raises(ValueError, match=r"^k: "):
        ndcg_of_lists(scores, gains, offsets, k=0)
    with pytest.raises(ValueError, match=r"^gains: "):
        ndcg_of_lists(scores, gains[:3], offsets, k=1)
