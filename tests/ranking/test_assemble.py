"""From feature values to the models' input row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.assemble import UNKNOWN_USER, UserFeatures, assemble, user_features
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import (
    DERIVED,
    ITEM_SCALARS,
    MAX_ITEM_TOKENS,
    MAX_QUERY_TOKENS,
    MODEL_COLUMNS,
    NEVER_DAYS,
    RELATION_ODDS,
    RELATIONS,
    TASTE_WIDTH,
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


def test_the_rate_of_a_pair_is_that_of_its_relation() -> None:
    """Own before maker before type before none of them; the pair's rate is the item's for that relation. Key 0 is no type at all."""
    user = user_features(
        {
            "history_item_keys": [stable_key("own")],
            "history_counts": [1.0],
            "history_days": [1.0],
            "type_keys": [7],
            "type_affinities": [2.0],
            "maker_keys": [70],
            "maker_affinities": [1.5],
        }
    )
    rates = {f"promo_rate_{name}": [0.5 + i / 8] * 5 for i, name in enumerate(RELATIONS)}
    rates["promo_appeal"] = [2.0] * 5
    block = items(["own", "a", "b", "c", "d"], type_key=[7, 7, 7, 8, 0], maker_key=[70, 70, 71, 80, 0], **rates)
    assert column(user, block, "relation_appeal") == [2.0 * np.float32(RELATION_ODDS[r]) for r in (0, 1, 2, 3, 3)]
    assert column(user, block, "relation") == [0.0, 1.0, 2.0, 3.0, 3.0]
    assert column(user, block, "relation_rate") == [0.5, 0.625, 0.75, 0.875, 0.875]
    assert column(UNKNOWN_USER, block, "relation_rate") == [0.875] * 5


def test_affinities_are_found_by_type_and_maker_and_shared_out() -> None:
    """Affinity comes from the item's own type and maker; what is expected of an item is affinity times its share."""
    user = user_features(
        {
            "type_keys": [9, 7],
            "type_affinities": [4.0, 2.0],
            "maker_keys": [70],
            "maker_affinities": [1.5],
        }
    )
    block = items(["a", "b", "c"], type_key=[7, 9, 8], maker_key=[70, 90, 0], type_share=[0.5, 0.25, 1.0], maker_share=[1.0, 1.0, 1.0])
    assert column(user, block, "type_affinity") == [2.0, 4.0, 0.0]
    assert column(user, block, "type_expected") == [2.0 * 0.5, 4.0 * 0.25, 0.0]
    assert column(user, block, "maker_affinity") == column(user, block, "maker_expected") == [1.5, 0.0, 0.0]


def test_discovery_multiplies_vectors_of_one_factorisation_only() -> None:
    """The dot product where user and item name the same one; 0 across two of them, and where either has no vector."""
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(size=TASTE_WIDTH).astype(np.float32), rng.normal(size=TASTE_WIDTH).astype(np.float32)
    user = user_features({"taste": mine.tolist(), "taste_at": 100})
    block = items(["a", "b", "c"], taste=[theirs.tolist(), theirs.tolist(), None], taste_at=[100, 93, None])
    got = column(user, block, "discovery")
    assert got == [pytest.approx(float(mine.astype(float) @ theirs.astype(float)), abs=1e-5), 0.0, 0.0]
    assert column(UNKNOWN_USER, block, "discovery") == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("width", [1, TASTE_WIDTH - 1, TASTE_WIDTH + 1])
def test_a_vector_of_another_width_is_refused(width: int) -> None:
    """It is of another schema, and numpy would repeat a single number silently."""
    with pytest.raises(ValueError, match=f"need {TASTE_WIDTH} numbers, got {width}"):
        user_features({"taste": [1.0] * width})
    with pytest.raises(ValueError, match=f"need {TASTE_WIDTH} numbers, got {width}"):
        items(["a"], taste=[[1.0] * width])


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
        ({"type_keys": [1, 2], "type_affinities": [1.0]}, "keys 2, affinities 1"),
        ({"maker_keys": [1], "maker_affinities": []}, "keys 1, affinities 0"),
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
            "type_keys": [1, 3],
            "type_affinities": [0.9, 0.1],
            "taste": rng.normal(size=TASTE_WIDTH).tolist(),
            "taste_at": 1,
        }
    )
    block = items(
        ids,
        type_key=rng.integers(1, 4, n).tolist(),
        taste=rng.normal(size=(n, TASTE_WIDTH)).tolist(),
        taste_at=rng.integers(1, 3, n).tolist(),
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
