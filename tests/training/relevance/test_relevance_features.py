"""Features of (query, product, list): what words and the encoder say, and how a product stands in its list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.relevance import shop
from training.relevance import lexical
from training.relevance.catalogue import Catalogue
from training.relevance.features import matrix
from training.relevance.fields import Field
from training.relevance.judged import Lists, lists_of
from training.relevance.pool import neighbourhood, ranks, shared, smoothed, z_scores
from training.relevance.query import parse
from training.relevance.searchable import Searchable
from training.relevance.semantic import interaction


def made(*titles: str, brand: str = "", colour: str = "") -> Catalogue:
    return Catalogue.of({"item_id": str(i), "title": title, "brand": brand, "color": colour} for i, title in enumerate(titles))


def of(query: str, catalogue: Catalogue) -> dict[str, np.ndarray]:
    return lexical.features(parse(query), np.arange(len(catalogue)), lexical.Lexicon(catalogue))


def test_what_is_not_wanted_counts_only_where_it_is_not_taken_back() -> None:
    """A title that has the cut word has it; one that says "no", "without" or "-free" of it denies it; others do neither."""
    found = of("belt without buckle", made("belt with buckle", "belt no buckle", "buckle-free belt", "belt"))
    assert found["unwanted_title"].tolist() == [1, 0, 0, 0]
    assert found["denied_title"].tolist() == [0, 1, 1, 0]


def test_colours_and_wearers_match_or_conflict() -> None:
    """The asked colour is 1, another −1, none 0; so is for whom a product is made."""
    catalogue = made("red shoe for women", "blue shoe for men", "shoe")
    found = of("red shoes women", catalogue)
    assert found["colour"].tolist() == [1, -1, 0]
    assert found["wearer"].tolist() == [1, -1, 0]


def test_numbers_match_with_their_unit() -> None:
    """Half an inch is found where it is written with any spelling of inch; another length of the same unit is counted as another."""
    found = of("1/2 inch binder", made("binder 1/2 in", "binder 2 inch", "binder"))
    assert found["measures_title"].tolist() == [1, 0, 0]
    assert found["measures_other"].tolist() == [0, 1, 0]


def test_coverage_weighs_rare_words() -> None:
    """Of two titles with one of the query's words each, the one with the rarer word covers more; both words cover all."""
    field = Field(("red mug", "red lamp", "red tray", "blue mug tray"))
    has_rare, has_common, both = field.coverage(["red", "lamp"], np.array([1, 0, 1]))[[0, 1, 2]]
    assert has_common < has_rare == both == 1.0
    assert Field(("", "")).bm25(["red"], np.array([0, 1])).tolist() == [0, 0]


def test_candidates_are_held_against_the_categories_of_the_whole_catalogues_answer() -> None:
    """Asked for mugs, the catalogue answers with mugs and a cup, not with a lamp: of two candidates the cup is of the answer's category."""
    mugs = [{"item_id": f"m{i}", "title": "mug", "category_path": "Home > Mugs"} for i in range(3)]
    others = [
        {"item_id": "cup", "title": "cup", "category_path": "Home > Mugs"},
        {"item_id": "lamp", "title": "lamp", "category_path": "Home > Lamps"},
    ]
    catalogue = Catalogue.of([*mugs, *others])
    found = lexical.features(parse("mug"), np.array([3, 4]), lexical.Lexicon(catalogue))
    assert catalogue.paths[4] == ("Home", "Lamps")
    weights = 1 / np.log2(2 + np.arange(5))
    matching = weights[:4].sum() / weights.sum()  # the cup by its category's name; the lamp, the fifth, not at all
    assert found["retrieved_level1"] == pytest.approx([matching, matching])
    assert found["retrieved_level2"] == pytest.approx([matching, 0])


def test_maxsim_is_the_mean_of_the_best_matches() -> None:
    """Two tokens match a title's tokens with cosines 1 and .6: the mean is .8 and the weakest of the query's own is its own."""
    query = np.array([[1, 0], [0, 1]], np.float32)
    title = np.array([[1, 0], [0.8, 0.6]], np.float32)
    found = interaction(query, [title])
    assert found["maxsim"] == pytest.approx([(1 + 0.6) / 2])
    assert found["weakest"] == pytest.approx([0.6])


def test_a_product_does_not_count_as_its_own_neighbour() -> None:
    """Similarities of three products: the first is near the second only, and its own strength lends it nothing."""
    similarity = np.array([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
    found = neighbourhood(similarity, np.array([5.0, 0.0, 0.0]))
    assert found["near_all"] == pytest.approx([0.5, 0.55, 0.15])
    assert found["near_strong"][0] == pytest.approx((0.9 + 0.1) / 2)
    assert shared(["a", "a", ""], np.array([3.0, 2.0, 1.0])).tolist() == [0.5, 0.5, 0.0]
    assert smoothed(np.array([1.0, 0.0]), np.ones((2, 2)), share=1.0, width=0.2) == pytest.approx([0.5, 0.5])


@given(st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(float("nan"))), min_size=1, max_size=12))
def test_standing_in_a_list_is_always_a_number(values: list[float]) -> None:
    """Whatever is unknown, z-scores are finite with mean 0 and ranks are within (0, 1)."""
    z, r = z_scores(np.array(values)), ranks(np.array(values))
    assert np.isfinite(z).all()
    assert abs(z.mean()) < 1e-6
    assert ((r > 0) & (r < 1)).all()


def test_a_list_does_not_depend_on_the_others() -> None:
    """The features of a list are the same alone and among others; no gain is read."""
    catalogue = Catalogue.of(dict(r, item_id=r["asin"]) for r in shop.products())
    lists = shop.lists(catalogue)
    some = lists.take(np.array([3, 7]))
    alone = matrix(lists.take(np.array([7])), Searchable(catalogue, shop.Letters()))
    blind = Lists(some.queries, some.items, some.offsets, np.zeros(len(some.items)))
    together = matrix(blind, Searchable(catalogue, shop.Letters()))
    assert together.names == alone.names
    np.testing.assert_allclose(together.values[some.span(1)], alone.values, atol=1e-5)


def test_a_list_of_one_product_has_features() -> None:
    """One candidate has nothing to be compared with, and still every feature is a number or unknown on purpose."""
    catalogue = made("red mug")
    found = matrix(lists_of({"mug": [(0, 1.0)]}), Searchable(catalogue, shop.Letters()))
    unknown = {name for name in found.names if np.isnan(found.column(name)).any()}
    of_no_category = {name for name in found.names if name.startswith(("retrieved_level", "retrieved_brand", "lift_"))}
    assert unknown == {"log_price", "rating", "cosine_category"} | of_no_category
