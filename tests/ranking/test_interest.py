"""The seeds' interest score: what a user had before, by likeness, rating and recency."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.interest import INTEREST_HALF_LIFE_DAYS, cosines, interest, recency_weights


def test_it_is_the_sum_over_the_history() -> None:
    """Two items had, one of them twice and long ago; each candidate's sum is written out."""
    weights = recency_weights(np.array([0.0, INTEREST_HALF_LIFE_DAYS]))
    assert weights.tolist() == [1 / 1.5, 0.5 / 1.5]
    likeness = cosines(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0], [3.0, 4.0], [0.0, 0.0]]))
    assert likeness.tolist() == [[1.0, 3 / 5, 0.0], [0.0, 4 / 5, 0.0]]
    found = interest(weights, likeness, np.array([1.0, 2.0]))
    assert found == pytest.approx([weights[0], weights[0] * 3 / 5 + weights[1] * 4 / 5 * 2, 0.0])


def test_without_a_history_nothing_is_of_interest() -> None:
    """No weights, and 0 for every candidate."""
    nothing = np.zeros((0, 4), np.float32)
    assert recency_weights(np.zeros(0)).tolist() == []
    assert interest(np.zeros(0), cosines(nothing, np.ones((3, 4), np.float32)), np.zeros(0)).tolist() == [0.0] * 3


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_weights_sum_to_one_and_never_rise_with_age(days: list[float]) -> None:
    """However long ago everything was."""
    weights = recency_weights(np.sort(np.array(days)))
    assert weights.sum() == pytest.approx(1.0)
    assert (np.diff(weights) <= 0).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((np.ones(1), np.ones((2, 3)), np.ones(2)), "weights: must be of shape"),
        ((np.ones(2), np.ones((2, 3)), np.ones(3)), "ratings: must be of shape"),
        ((np.ones(2), np.ones(3), np.ones(2)), "similarities: must have two dimensions"),
    ],
)
def test_shapes_that_do_not_fit_are_named(arguments: tuple[np.ndarray, ...], said: str) -> None:
    """The message has the argument."""
    with pytest.raises(ValueError, match=said):
        interest(*arguments)


def test_vectors_of_other_widths_are_named() -> None:
    """Vectors of two kinds must not be multiplied."""
    with pytest.raises(ValueError, match=r"items: must be vectors of width \(4,\)"):
        cosines(np.ones((1, 4)), np.ones((1, 5)))
