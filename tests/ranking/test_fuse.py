from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranking import fuse

ABSENT = np.nan
RUNS = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, ABSENT], [ABSENT, ABSENT, 1.0]])
"""The runs ranx publishes its values for: d1, d2, d3."""

matrices = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 8)), elements=st.floats(-5, 5) | st.just(np.nan))


def test_reciprocal_rank_fusion_equals_the_published_values() -> None:
    """d1 is third and first, d2 twice second, d3 twice first, each place worth 1 / (60 + rank)."""
    np.testing.assert_allclose(fuse.rrf(RUNS), [1 / 63 + 1 / 61, 1 / 62 + 1 / 62, 1 / 61 + 1 / 61], rtol=1e-15)


def test_combmnz_and_combsum_equal_the_published_values() -> None:
    """Each document is in two runs and its scores add up to 4: CombSUM 4, CombMNZ 2 · 4."""
    np.testing.assert_allclose(fuse.combsum(RUNS), [1 + 3, 2 + 2, 3 + 1])
    np.testing.assert_allclose(fuse.combmnz(RUNS), [2 * (1 + 3), 2 * (2 + 2), 2 * (3 + 1)])


def test_inverse_square_rank_equals_the_published_values() -> None:
    """d1 is third and first: (1/3² + 1/1²) · 2 runs."""
    np.testing.assert_allclose(fuse.isr(RUNS), [(1 / 9 + 1) * 2, (1 / 4 + 1 / 4) * 2, (1 + 1) * 2])


def test_ties_stand_in_input_order() -> None:
    """As everywhere in this project: equal scores keep the order they came in."""
    np.testing.assert_array_equal(fuse.ranks(np.array([[0.5, 0.7, 0.5, np.nan]])), [[2, 1, 3, np.nan]])


@given(matrices, st.sampled_from(sorted(fuse.FUSIONS)))
def test_fusions_of_any_scale_depend_on_no_scale(scores: np.ndarray, name: str) -> None:
    """By name, every fusion gives one finite number per item, and stretching or shifting one ranking changes no rank fusion's value."""
    fused = fuse.FUSIONS[name](scores)
    assert fused.shape == scores.shape[1:]
    assert np.isfinite(fused).all()
    stretched = scores * 4.0  # exact in floating point, so ties stay ties
    np.testing.assert_allclose(fuse.FUSIONS[name](stretched), fused, rtol=1e-9, atol=1e-12)


@given(matrices)
def test_an_item_nobody_ranks_gets_nothing(scores: np.ndarray) -> None:
    """Absent everywhere is 0 for every fusion, and its absence moves nobody else."""
    wider = np.concatenate([scores, np.full((len(scores), 1), np.nan)], axis=1)
    for fusion in fuse.FUSIONS.values():
        assert fusion(wider)[-1] == 0.0
        np.testing.assert_allclose(fusion(wider)[:-1], fusion(scores))


@pytest.mark.parametrize("name", sorted(fuse.FUSIONS))
def test_rankings_that_agree_are_kept(name: str) -> None:
    """Where all say the same order, so does the fusion."""
    scores = np.array([[3.0, 1.0, 2.0], [30.0, 10.0, 20.0]])
    assert np.argsort(-fuse.FUSIONS[name](scores), kind="stable").tolist() == [0, 2, 1]


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize("name", ["combsum", "combmnz"])
def test_an_infinite_score_has_no_scale(name: str, infinite: float) -> None:
    """Beside it every other score, the best one too, would stand at one end: sums of scores refuse it, fusions of ranks take it."""
    scores = np.array([[1.0, 2.0, 3.0], [1.0, np.nan, infinite]])
    for fusion in (fuse.FUSIONS[name], getattr(fuse, name)):
        with pytest.raises(ValueError, match=rf"^scores: must be finite, or NaN .*; ranking 1 gives item 2 {infinite}$"):
            fusion(scores)
    last = fuse.rrf(scores)[2]
    assert last == pytest.approx(1 / 61 + 1 / (61 if infinite > 0 else 62))
