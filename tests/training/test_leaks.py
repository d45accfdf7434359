"""Leaks are planted here, and each must be found; what is clean must not be accused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.leaks import LeakFound, from_the_future, knows_label, refuse, shared
from training.splits import by_group, by_time, stratified

N = 4000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=60), st.integers(0, 3))
def test_our_own_splits_are_clean(lists: list[int], seed: int) -> None:
    """No list is in two parts of any split of `training.splits`."""
    for parts in (stratified(lists, np.zeros(len(lists)), seed=seed), by_group(lists, seed=seed), by_time(lists, np.array(lists))):
        assert shared("list", parts, lists) == []


def test_a_list_in_two_parts_is_found() -> None:
    """Rows split at random tear lists; a single torn list is named."""
    lists = np.repeat(np.arange(50), 20)
    parts = by_group(lists)
    parts[lists == 17] = [0] * 10 + [2] * 10
    (leak,) = shared("list", parts, lists)
    assert (leak.kind, leak.where, leak.count) == ("shared", "list", 1)
    assert leak.detail == "in more than one part: 17"


def test_a_query_in_two_parts_is_found() -> None:
    """A split by list puts the same query into several parts: the detector says which."""
    lists, queries = np.arange(300), np.array([f"query {i % 40}" for i in range(300)])
    assert shared("list", by_group(lists), lists) == []
    (leak,) = shared("query", by_group(lists), queries)
    assert leak.count > 30
    assert "query " in leak.detail


def test_a_user_week_in_two_parts_is_found() -> None:
    """The pair counts: users may be in several parts, and weeks, but not the same user's same week."""
    users, weeks, parts = ["ann", "ann", "bob", "bob"], [1, 2, 1, 2], np.array([0, 1, 0, 1])
    assert shared("user-week", parts, users, weeks) == []
    (leak,) = shared("user-week", np.append(parts, 1), [*users, "ann"], [*weeks, 1])
    assert (leak.count, leak.detail) == (1, "in more than one part: ann / 1")


def test_a_copied_row_is_found(rng: np.random.Generator) -> None:
    """Over-sampling before the split puts copies of a row on both sides."""
    x = rng.normal(size=(100, 3))
    parts = by_group(np.arange(100))
    assert shared("row", parts, *x.T) == []
    copied = np.concatenate([x, x[parts == 2][:1]])
    (leak,) = shared("row", np.append(parts, 0), *copied.T)
    assert leak.count == 1


def test_a_column_of_another_length_is_refused() -> None:
    """One value must not stand for all rows: it would be shared by every part."""
    for column in ([7], [7, 8, 9], np.zeros((2, 1))):
        with pytest.raises(ValueError, match=r"columns: need one value per row, pair's column 1 has shape .* for 2 rows"):
            shared("pair", np.array([0, 1]), [1, 2], column)


def test_a_missing_name_is_refused_and_a_missing_number_is_a_value() -> None:
    """Nobody knows which list None is; a row's copy lacks what the row lacks."""
    with pytest.raises(ValueError, match="columns: list's column 0: row 1 has none"):
        shared("list", np.array([0, 1]), ["a", None])
    with pytest.raises(ValueError, match="columns: list's column 0: must be of one kind"):
        shared("list", np.array([0, 1]), np.array(["a", 1], object))
    (leak,) = shared("row", np.array([0, 1]), np.array([np.nan, np.nan]))
    assert leak.count == 1


PLANTED: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "the label itself": lambda rng, y: y * 1.0,
    "the label turned round": lambda rng, y: 5.0 - y,
    "the label and a little noise": lambda rng, y: y + rng.normal(0, 0.1, len(y)),
    "a code of the label": lambda rng, y: np.where(y == 1, 3.0, rng.choice([1.0, 5.0], len(y))),
    "missing where nothing was bought": lambda rng, y: np.where(y == 1, rng.normal(size=len(y)), np.nan),
    "infinite where it was": lambda rng, y: np.where(y == 1, np.inf, rng.normal(size=len(y))),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
@pytest.mark.parametrize("rate", [0.5, 0.01])
def test_a_feature_that_knows_the_label_is_found(rng: np.random.Generator, planted: Callable[..., np.ndarray], rate: float) -> None:
    """However it is coded, and however rare the positives, exactly the planted column is named."""
    y = (rng.random(N) < rate).astype(int)
    honest = rng.normal(size=N) + y  # AUC about .76
    x = np.column_stack([honest, planted(rng, y), np.arange(N)])
    (leak,) = knows_label(x, y, ("honest", "planted", "row number"))
    assert (leak.kind, leak.where) == ("knows the label", "planted")


def test_honest_features_are_not_accused(rng: np.random.Generator) -> None:
    """A strong feature, an id, a constant and an empty column know less than the label."""
    y = (rng.random(N) < 0.1).astype(int)
    x = np.column_stack([rng.normal(size=N) + 2 * y, rng.permutation(N), np.ones(N), np.full(N, np.nan)])
    assert knows_label(x, y, ("strong", "id", "constant", "empty")) == []


def test_without_both_labels_nothing_can_be_known() -> None:
    """One label only: no detector can say, and none does."""
    assert knows_label(np.zeros((3, 1)), np.zeros(3), ("x",)) == []


def test_a_matrix_of_another_shape_is_refused() -> None:
    """The names must be those of the columns."""
    with pytest.raises(ValueError, match=r"x: must be \(3, 2\), is \(3, 1\)"):
        knows_label(np.zeros((3, 1)), np.zeros(3), ("a", "b"))


def test_a_future_timestamp_is_found() -> None:
    """Known a microsecond before the question is fine; at the very instant or after is not; never known is."""
    asked = np.array(["2026-03-01T00:00:00.000000"] * 4, "datetime64[us]")
    known = np.array(["2026-02-28T23:59:59.999999", "2026-03-01", "2026-03-02", "NaT"], "datetime64[us]")
    (leak,) = from_the_future("user_behaviour", known, asked)
    assert (leak.kind, leak.where, leak.count) == ("from the future", "user_behaviour", 2)
    assert leak.detail.startswith("row 1: 2026-03-01")
    assert from_the_future("user_behaviour", known[:1], asked[:1]) == []


def test_refusing_names_every_leak() -> None:
    """All leaks stand in one error; without any there is none."""
    parts = np.array([0, 1])
    refuse([], shared("list", parts, [1, 2]))
    with pytest.raises(LeakFound, match=r"list: shared.*; query: shared") as caught:
        refuse(shared("list", parts, [1, 1]), shared("query", parts, ["a", "a"]))
    assert len(caught.value.leaks) == 2
