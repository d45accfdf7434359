"""From feature values to the models' input row: the one function both training and the gateway call.

The derived features are vectorised over the candidates; nothing here knows where values came from or how old they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.policy import ATTRIBUTES
from ranking.features import (
    DERIVED,
    ITEM_PROFILE,
    ITEM_SCALARS,
    ITEM_STATISTICS,
    MAX_ITEM_TOKENS,
    MAX_QUERY_TOKENS,
    MODEL_COLUMNS,
    NEVER_DAYS,
    REQUEST_COLUMNS,
    USER_BEHAVIOUR,
    USER_PROFILE,
    USER_SCALARS,
    stable_key,
)
from ranking.types import TIERS, Float32Array, IntArray

ITEM_ATTRIBUTES: tuple[str, ...] = tuple(a for a in ATTRIBUTES if a != "popularity_tier")
"""String features of items that a policy can make groups of; the models do not read them."""
_USER_DEFAULTS = {f.name: f.default for v in (USER_PROFILE, USER_BEHAVIOUR) for f in v}
_ITEM_DEFAULTS = {f.name: f.default for v in (ITEM_PROFILE, ITEM_STATISTICS) for f in v}
_TIER_CODES = {name: code for code, name in enumerate(TIERS)}
_NEW = _TIER_CODES["new"]
_ORDERS_ALL = USER_SCALARS.index("orders_all")
_PRICE_LEVEL = USER_SCALARS.index("mean_unit_price")
_PRICE = ITEM_SCALARS.index("price_28d")


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's values, ready for matching: key arrays ascending, so that a lookup is a binary search."""

    scalars: Float32Array  # (len(USER_SCALARS),)
    history_keys: IntArray  # (h,) ascending
    history_counts: Float32Array  # (h,)
    history_days: Float32Array  # (h,)
    category_keys: IntArray  # (c,) ascending
    category_shares: Float32Array  # (c,)
    interest_text: str


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """``n`` items' values, columnar."""

    keys: IntArray  # (n,) stable_key(item_id)
    scalars: Float32Array  # (n, len(ITEM_SCALARS))
    tiers: NDArray[np.int8]  # (n,) index into TIERS
    category_keys: IntArray  # (n,)
    token_ids: NDArray[np.int32]  # (n, MAX_ITEM_TOKENS) padded with 0
    text_digests: IntArray  # (n,)
    attribute_keys: IntArray  # (n, len(ITEM_ATTRIBUTES)) stable_key of each value, 0 where the item has none

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: NDArray[Any]) -> ItemFeatures:
        """The items at `rows`, (k,) integers or (n,) booleans, in that order."""
        return ItemFeatures(
            self.keys[rows],
            self.scalars[rows],
            self.tiers[rows],
            self.category_keys[rows],
            self.token_ids[rows],
            self.text_digests[rows],
            self.attribute_keys[rows],
        )


def user_features(values: Mapping[str, Any]) -> UserFeatures:
    """Build a user from feature values by name; an absent name or None becomes the declared default.

    Args:
        values: scalars as numbers, lists as sequences. Parallel lists (`history_*`, `category_*`) have equal lengths.

    Raises:
        ValueError: parallel lists differ in length.
    """
    scalars = np.array([_or_default(values, name, _USER_DEFAULTS) for name in USER_SCALARS], np.float32)
    keys = _array(values.get("history_item_keys"), np.int64)
    counts = _array(values.get("history_counts"), np.float32)
    days = _array(values.get("history_days"), np.float32)
    categories = _array(values.get("category_keys"), np.int64)
    shares = _array(values.get("category_shares"), np.float32)
    if not (len(keys) == len(counts) == len(days)):
        raise ValueError(f"history lists differ in length: keys {len(keys)}, counts {len(counts)}, days {len(days)}")
    if len(categories) != len(shares):
        raise ValueError(f"category lists differ in length: keys {len(categories)}, shares {len(shares)}")
    by_key, by_category = np.argsort(keys, kind="stable"), np.argsort(categories, kind="stable")
    return UserFeatures(
        scalars,
        keys[by_key],
        counts[by_key],
        days[by_key],
        categories[by_category],
        shares[by_category],
        str(values.get("interest_text") or ""),
    )


def item_features(keys: IntArray, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> ItemFeatures:
    """Build a block of items from feature columns by name; an absent column or a None/NaN value becomes the declared default.

    Args:
        keys: (n,) int64, `stable_key` of each item id.
        columns: name -> (n,) values; `token_ids` holds a sequence of ints (or None) per item, `ITEM_ATTRIBUTES` strings.
    """
    n = len(keys)
    scalars = np.empty((n, len(ITEM_SCALARS)), np.float32)
    for j, name in enumerate(ITEM_SCALARS):
        scalars[:, j] = _filled(columns.get(name), n, float(_ITEM_DEFAULTS[name] or 0.0))
    tiers = np.full(n, _NEW, np.int8)
    if "popularity_tier" in columns:
        tiers[:] = [_TIER_CODES.get(t, _NEW) if isinstance(t, str) else _NEW for t in columns["popularity_tier"]]
    tokens = np.zeros((n, MAX_ITEM_TOKENS), np.int32)
    for row, ids in enumerate(columns.get("token_ids", ())):
        if ids is not None:
            cut = ids[:MAX_ITEM_TOKENS]
            tokens[row, : len(cut)] = cut
    return ItemFeatures(
        np.asarray(keys, np.int64),
        scalars,
        tiers,
        _integers(columns.get("category_key"), n),
        tokens,
        _integers(columns.get("text_digest"), n),
        np.stack([_text_keys(columns.get(name), n) for name in ITEM_ATTRIBUTES], axis=1),
    )


def assemble(
    user: UserFeatures,
    items: ItemFeatures,
    *,
    query_tokens: IntArray,
    columns: Mapping[str, Float32Array],
) -> Float32Array:
    """The models' input matrix, one row per candidate, columns as in `MODEL_COLUMNS`.

    Args:
        user: the user; `UNKNOWN_USER` where there is none.
        items: (n,) candidates.
        query_tokens: (q,) token ids of the query without special tokens; empty for a list without a query.
        columns: request columns by name, each (n,); an absent one is its default, an undeclared one is ignored.

    Returns:
        (n, len(MODEL_COLUMNS)) float32. O(n · (log h + q)).
    """
    n, u, i = len(items), len(USER_SCALARS), len(ITEM_SCALARS)
    out = np.empty((n, len(MODEL_COLUMNS)), np.float32)
    out[:, :u] = user.scalars
    out[:, u : u + i] = items.scalars
    j = u + i
    for feature in REQUEST_COLUMNS:
        out[:, j] = columns.get(feature.name, np.float32(feature.default or 0.0))
        j += 1

    count = _lookup(items.keys, user.history_keys, user.history_counts, 0.0)
    price, level = items.scalars[:, _PRICE], user.scalars[_PRICE_LEVEL]
    derived = {
        "tier_code": items.tiers.astype(np.float32),
        "repeat_count": count,
        "repeat_days": _lookup(items.keys, user.history_keys, user.history_days, NEVER_DAYS),
        "repeat_share": count / max(user.scalars[_ORDERS_ALL], np.float32(1.0)),
        "category_share": _lookup(items.category_keys, user.category_keys, user.category_shares, 0.0),
        "price_to_level": np.where((price > 0) & (level > 0), price / max(level, np.float32(1e-3)), np.float32(1.0)),
        "query_overlap": _overlap(query_tokens, items.token_ids),
    }
    for feature in DERIVED:
        out[:, j] = derived[feature.name]
        j += 1
    return out


def _lookup(keys: IntArray, table: IntArray, values: Float32Array, missing: float) -> Float32Array:
    """values[table == key] for each key, `missing` where the ascending table has none. O(n log h)."""
    if not len(table):
        return np.full(len(keys), missing, np.float32)
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where(table[at] == keys, values[at], np.float32(missing))


def _overlap(query_tokens: IntArray, token_ids: NDArray[np.int32]) -> Float32Array:
    distinct = np.unique(query_tokens[:MAX_QUERY_TOKENS]).astype(np.int32)  # what the text member reads
    if not len(distinct):
        return np.zeros(len(token_ids), np.float32)
    # One bit per query token (at most 24): a row's tokens are ORed, so a token that stands twice counts once.
    at = np.minimum(np.searchsorted(distinct, token_ids), len(distinct) - 1)
    bits = np.where(distinct[at] == token_ids, np.uint32(1) << at.astype(np.uint32), np.uint32(0))
    found = np.bitwise_count(np.bitwise_or.reduce(bits, axis=1))
    shared: Float32Array = found.astype(np.float32)
    return shared / np.float32(len(distinct))


def _or_default(values: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> Any:
    value = values.get(name)
    return defaults[name] if _is_null(value) else value


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _array(values: Any, dtype: type[np.generic]) -> NDArray[Any]:
    return np.asarray(() if values is None else values, dtype)


def _filled(values: Any, n: int, fill: float) -> Float32Array:
    if values is None:
        return np.full(n, fill, np.float32)
    column = np.asarray(values, np.float32)  # None becomes NaN
    return np.where(np.isnan(column), np.float32(fill), column)


def _integers(values: Any, n: int) -> IntArray:
    """(n,) int64 with 0 for None. Never through float: 64-bit keys would lose their low bits."""
    if values is None:
        return np.zeros(n, np.int64)
    if isinstance(values, np.ndarray) and values.dtype == np.int64:
        return values
    return np.array([0 if _is_null(v) else int(v) for v in values], np.int64)


def _text_keys(values: Any, n: int) -> IntArray:
    """(n,) `stable_key` of strings, each distinct one hashed once; 0 for what is none."""
    if values is None:
        return np.zeros(n, np.int64)
    keys = {v: stable_key(v) for v in set(values) if isinstance(v, str)}
    return np.fromiter((keys.get(v, 0) for v in values), np.int64, n)


UNKNOWN_USER = user_features({})
"""What a user without any stored feature looks like: every declared default."""
