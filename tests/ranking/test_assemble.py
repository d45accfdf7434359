"""From feature values to the models' input row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.assemble import ITEM_ATTRIBUTES, UNKNOWN_USER, UserFeatures, assemble, user_features
from ranking.features import (
    DERIVED,
    ITEM_SCALARS,
    MAX_ITEM_TOKENS,
    MAX_QUERY_TOKENS,
    MODEL_COLUMNS,
    NEVER_DAYS,
    USER_SCALARS,
    VIEWS,
    stable_key,
)
from ranking.types import TIERS
from tests.ranking.builders import items

NO_QUERY = np.array([], np.int64)
DEFAULTS = {f.name: f.default for v in VIEWS for f in v}


def column(user: UserFeatures, block: Any, name: str, *, query: Any = NO_QUERY, columns: Any = None) -> list[float]:
    matrix = assemble(user, block, query_tokens=query, columns=columns or {})
    return matrix[:, MODEL_COLUMNS.index(name)].tolist()


def test_nothing_known_gives_every_declared_default() -> None:
    """An unknown user and unknown items become the row of defaults, float32, one per candidate."""
    matrix = assemble(UNKNOWN_USER, items(["a", "b"]), query_tokens=NO_QUERY, columns={})
    assert matrix.dtype == np.float32
    derived = {f.name: f.default for f in DERIVED}
    want = [float((DEFAULTS | derived).get(name, 0.0)) for name in MODEL_COLUMNS]
    assert matrix.tolist() == [want, want]


@pytest.mark.parametrize("null", [None, math.nan, np.float32("nan")])
def test_a_null_is_the_default_and_never_nan(null: Any) -> None:
    """None and NaN mean "not known", for users and items alike."""
    user = user_features(dict.fromkeys(USER_SCALARS, null))
    assert user.scalars.tolist() == UNKNOWN_USER.scalars.tolist()
    block = items(["a", "b"], **{name: [null, 2.0] for name in ITEM_SCALARS})
    assert block.scalars[0].tolist() == [DEFAULTS[name] for name in ITEM_SCALARS]
    assert block.scalars[1].tolist() == [2.0] * len(ITEM_SCALARS)
    assert items(["a"], popularity_tier=[null], category_key=[null]).tiers.tolist() == [TIERS.index("new")]


def test_history_is_found_whatever_its_order() -> None:
    """Counts and days come from the item's own key, however the history was sorted; other items were never bought."""
    keys = [stable_key(i) for i in ("x", "a", "y", "b")]
    user = user_features({"history_item_keys": keys, "history_counts": [1, 4, 2, 3], "history_days": [10, 40, 20, 30], "orders_all": 8})
    block = items(["b", "never", "a"])
    assert column(user, block, "repeat_count") == [3.0, 0.0, 4.0]
    assert column(user, block, "repeat_days") == [30.0, NEVER_DAYS, 40.0]
    assert column(user, block, "repeat_share") == [3 / 8, 0.0, 4 / 8]


def test_repeat_share_of_a_user_without_orders_divides_by_one() -> None:
    """A history without an order count is odd but finite."""
    user = user_features({"history_item_keys": [stable_key("a")], "history_counts": [2], "history_days": [1]})
    assert column(user, items(["a"]), "repeat_share") == [2.0]


def test_category_share_follows_the_items_category() -> None:
    """The user's share of the item's category, 0 for a category never bought."""
    user = user_features({"category_keys": [stable_key("milk"), stable_key("bread")], "category_shares": [0.5, 0.25]})
    block = items(["a", "b", "c"], category_key=[stable_key("bread"), stable_key("soap"), stable_key("milk")])
    assert column(user, block, "category_share") == [0.25, 0.0, 0.5]


@pytest.mark.parametrize(("price", "level", "want"), [(3.0, 2.0, 1.5), (0.0, 2.0, 1.0), (3.0, 0.0, 1.0), (2.0, 0.0005, 2000.0)])
def test_price_to_level(price: float, level: float, want: float) -> None:
    """Price over the user's level; 1 where either is unknown; a level near nothing does not explode."""
    got = column(user_features({"mean_unit_price": level}), items(["a"], price_28d=[price]), "price_to_level")
    assert got == [pytest.approx(want)]


def test_tier_code_is_the_index_into_tiers() -> None:
    """head, tail, new are 0, 1, 2; a name nobody knows is new."""
    block = items(["a", "b", "c", "d"], popularity_tier=[*TIERS, "gold"])
    assert column(UNKNOWN_USER, block, "tier_code") == [0.0, 1.0, 2.0, float(TIERS.index("new"))]


def test_query_overlap_is_the_share_of_distinct_query_tokens_in_the_item() -> None:
    """Two of three distinct tokens found is 2/3, repeated tokens count once, padding matches nothing, no query is 0."""
    block = items(["a", "b", "c"], token_ids=[[5, 6, 9], [7], None])
    assert column(UNKNOWN_USER, block, "query_overlap", query=np.array([5, 6, 7, 5])) == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert column(UNKNOWN_USER, block, "query_overlap") == [0.0, 0.0, 0.0]


def test_only_the_part_of_a_query_that_is_read_counts() -> None:
    """Tokens past the limit reach neither the text member nor the overlap."""
    long = np.concatenate([np.full(MAX_QUERY_TOKENS, 5), np.arange(1000, 2000)])
    assert column(UNKNOWN_USER, items(["a"], token_ids=[[5]]), "query_overlap", query=long) == [1.0]


def test_request_columns_are_taken_by_name() -> None:
    """A declared column lands in its place, an absent one is its default, an undeclared one changes nothing."""
    sent = {"on_display": np.array([1.0, 0.0], np.float32), "colour": np.array([9.0, 9.0], np.float32)}
    block = items(["a", "b"])
    assert column(UNKNOWN_USER, block, "on_display", columns=sent) == [1.0, 0.0]
    assert column(UNKNOWN_USER, block, "in_mailer", columns=sent) == [0.0, 0.0]
    plain = assemble(UNKNOWN_USER, block, query_tokens=NO_QUERY, columns={})
    assert assemble(UNKNOWN_USER, block, query_tokens=NO_QUERY, columns={"colour": sent["colour"]}).tolist() == plain.tolist()


def test_long_texts_are_cut_and_64_bit_keys_are_not() -> None:
    """Token ids past the limit are dropped; a key near 2^63 keeps its last bit, which a float would lose."""
    key = 2**63 - 1
    block = items(["a", "b"], token_ids=[list(range(1, 99)), []], category_key=[key, None], text_digest=[key - 2, key])
    assert block.token_ids[0].tolist() == list(range(1, MAX_ITEM_TOKENS + 1))
    assert block.category_keys.tolist() == [key, 0]
    assert block.text_digests.tolist() == [key - 2, key]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"history_item_keys": [1, 2], "history_counts": [1.0], "history_days": [1.0, 2.0]}, "keys 2, counts 1, days 2"),
        ({"category_keys": [1], "category_shares": []}, "keys 1, shares 0"),
    ],
)
def test_parallel_lists_of_different_lengths_are_refused(values: dict[str, Any], message: str) -> None:
    """A history that does not line up would attach counts to the wrong items."""
    with pytest.raises(ValueError, match=message):
        user_features(values)


@given(st.integers(0, 2**32 - 1))
def test_a_candidates_row_does_not_depend_on_the_others(seed: int) -> None:
    """Assembled alone, in a list or after `take`, an item's row is bit for bit the same."""
    rng = np.random.default_rng(seed)
    n = 6
    ids = [f"item{i}" for i in range(n)]
    user = user_features(
        {
            "history_item_keys": [stable_key(i) for i in ids[::2]],
            "history_counts": [1.0, 2.0, 3.0],
            "history_days": [4.0, 5.0, 6.0],
            "orders_all": float(rng.integers(0, 9)),
            "mean_unit_price": float(rng.random()),
            "category_keys": [1, 2],
            "category_shares": [0.7, 0.3],
        }
    )
    block = items(
        ids,
        price_28d=rng.random(n).tolist(),
        popularity_tier=rng.choice(TIERS, n).tolist(),
        category_key=rng.integers(1, 4, n).tolist(),
        token_ids=[rng.integers(1, 9, rng.integers(0, 5)).tolist() for _ in range(n)],
    )
    query = rng.integers(1, 9, 3)
    whole = assemble(user, block, query_tokens=query, columns={})
    assert np.isfinite(whole).all()
    for i in range(n):
        alone = assemble(user, block.take(np.array([i])), query_tokens=query, columns={})
        assert alone.tobytes() == whole[[i]].tobytes()


def test_take_keeps_columns_together() -> None:
    """Rows chosen by index or by mask carry all their columns along."""
    block = items(["a", "b", "c"], price_28d=[1.0, 2.0, 3.0], popularity_tier=["head", "tail", "new"], text_digest=[7, 8, 9])
    picked = block.take(np.array([2, 0]))
    assert (len(picked), picked.tiers.tolist(), picked.text_digests.tolist()) == (2, [2, 0], [9, 7])
    assert block.take(np.array([True, False, True])).keys.tolist() == [stable_key("a"), stable_key("c")]
    assert picked.scalars[:, ITEM_SCALARS.index("price_28d")].tolist() == [3.0, 1.0]


def test_attributes_are_the_keys_of_their_names() -> None:
    """Brand, seller, category and department become stable keys; what an item lacks is 0, and no model column depends on them."""
    block = items(["a", "b", "c"], brand=["Acme", None, math.nan], seller=["", "s1", "s1"])
    assert dict(zip(ITEM_ATTRIBUTES, block.attribute_keys.T.tolist(), strict=True)) == {
        "brand": [stable_key("Acme"), 0, 0],
        "seller": [0, stable_key("s1"), stable_key("s1")],
        "category": [0, 0, 0],
        "department": [0, 0, 0],
    }
    assert block.take(np.array([2, 0])).attribute_keys.tolist() == block.attribute_keys[[2, 0]].tolist()
    rows = [assemble(UNKNOWN_USER, b, query_tokens=NO_QUERY, columns={}) for b in (block, items(["a", "b", "c"]))]
    np.testing.assert_array_equal(*rows)
