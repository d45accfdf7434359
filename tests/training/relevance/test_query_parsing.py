"""Words of texts, and queries taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.relevance.query import parse
from training.relevance.words import measures, stem, words


@pytest.mark.parametrize(
    ("typed", "wanted", "unwanted"),
    [
        ("brown belt without buckle", "brown belt", ("buckle",)),
        ("lights without wiring with switch", "lights with switch", ("wiring",)),
        ("polygel nail kit without led lamp", "polygel nail kit", ("led", "lamp")),
        ("sugar-free gum", "gum", ("sugar",)),
        ("bread gluten free", "bread", ("gluten",)),
        ("mug no handle for kids", "mug for kids", ("handle",)),
        ("red mug", "red mug", ()),
    ],
)
def test_a_negator_reaches_up_to_the_next_connective(typed: str, wanted: str, unwanted: tuple[str, ...]) -> None:
    """What stands behind "without", "no" or "not" is cut up to "with", "for" and their like; "X-free" and a last "X free" negate X."""
    query = parse(typed)
    assert (query.wanted_text, query.unwanted) == (wanted, unwanted)
    assert query.negated == bool(unwanted)


def test_a_phrase_is_no_negation() -> None:
    """ "is not" belongs to a title or saying, and nothing is cut."""
    query = parse("the one for whom food is not enough")
    assert not query.negated
    assert query.wanted_text == query.text


def test_a_negator_without_anything_wanted_leaves_the_query_whole() -> None:
    """A query that is all negation is read as typed, and still says what is not wanted."""
    query = parse("not included")
    assert query.wanted_text == "not included"
    assert query.unwanted == ("included",)


@given(st.text(max_size=60))
def test_any_text_is_taken_apart(text: str) -> None:
    """Whatever is typed, what is wanted is part of it and parsing says the same twice."""
    query = parse(text)
    assert query == parse(text)
    assert (
        set(query.wanted_text.lower().split()) <= set(text.lower().replace(",", " ").replace(";", " ").split()) or query.wanted_text == text
    )


def test_plural_and_case_do_not_count() -> None:
    """One noun is one word however it is written; words that end in s by nature keep it."""
    assert words("Berries, BOXES & belts") == ["berry", "box", "belt"]
    assert [stem(w) for w in ("glass", "bus", "gas", "knives")] == ["glass", "bus", "gas", "knive"]


def test_numbers_keep_their_units() -> None:
    """Units in any spelling are one; inches may be a mark; a number without a unit has an empty one."""
    assert measures('1/2 inch binder, 6" wide, 3') == {("1/2", "in"), ("6", "in"), ("3", "")}
    assert measures("200mg") == {("200", "mg")}
