"""What a catalogue's own answer to a query says of its candidates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.relevance.retrieved import LEVELS, Groups, features

PATHS = [("Home", "Mugs"), ("Home", "Lamps"), ("Toys",), ()]
BRANDS = ["Aye", "", "aye", "Bee"]


def test_shares_are_of_the_best_products_by_place() -> None:
    """Of two products that match, places weigh 1 and 1 / log2(3): the first's category has its part, their common one has all."""
    found = features(np.array([2.0, 1.0, 0.0, 0.0]), np.arange(4), Groups.of(PATHS, BRANDS))
    weights = 1 / np.log2(2 + np.arange(4))
    first, both = weights[0] / weights.sum(), weights[:2].sum() / weights.sum()
    assert found["retrieved_level1"] == pytest.approx([both, both, 0, np.nan], nan_ok=True)
    assert found["retrieved_level2"] == pytest.approx([first, both - first, np.nan, np.nan], nan_ok=True)
    assert found["retrieved_levels"] == pytest.approx([(both + first) / 2, both - first / 2, 0, np.nan], nan_ok=True)
    assert found["retrieved_brand"] == pytest.approx([first, np.nan, first, 0], nan_ok=True)
    assert found["retrieved_place"] == pytest.approx(-np.log(1 + np.array([0, 1, 2, 2])))


def test_a_lift_is_above_0_where_a_category_is_over_represented() -> None:
    """Home is half of the catalogue and all of what matches: its lift is above 0, that of toys below."""
    lift = features(np.array([2.0, 1.0, 0.0, 0.0]), np.array([0, 2]), Groups.of(PATHS, BRANDS))["lift_level1"]
    assert lift[0] > 0 > lift[1]


def test_a_query_that_matches_nothing_says_nothing() -> None:
    """Products that share nothing with the query do not stand for it, although somebody has to be first."""
    found = features(np.zeros(4), np.arange(4), Groups.of(PATHS, BRANDS))
    assert found["retrieved_level1"][:3].tolist() == [0, 0, 0]
    assert found["retrieved_brand"][[0, 2, 3]].tolist() == [0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 9)), min_size=1, max_size=80))
def test_shares_stay_within_1_and_shrink_down_the_tree(rows: list[tuple[int, float]]) -> None:
    """A share is within [0, 1], is unknown only where a product has no such level, and no level has more than the one above it."""
    chosen = [PATHS[kind] for kind, _ in rows]
    scores = np.array([score for _, score in rows])
    found = features(scores, np.arange(len(rows)), Groups.of(chosen, [""] * len(rows)))
    shares = np.stack([found[f"retrieved_level{level + 1}"] for level in range(LEVELS)])
    known = np.array([[len(path) > level for path in chosen] for level in range(LEVELS)])
    np.testing.assert_array_equal(~np.isnan(shares), known)
    assert ((shares[known] >= 0) & (shares[known] <= 1 + 1e-9)).all()
    assert (np.diff(np.where(known, shares, 0.0), axis=0) <= 1e-9).all()


def test_a_candidate_alone_is_told_the_same_as_among_others() -> None:
    """What the catalogue says of a candidate does not depend on the other candidates."""
    groups, scores = Groups.of(PATHS, BRANDS), np.array([2.0, 1.0, 0.5, 0.0])
    together = features(scores, np.arange(4), groups)
    for row in range(4):
        for name, values in features(scores, np.array([row]), groups).items():
            np.testing.assert_array_equal(values, together[name][[row]])
