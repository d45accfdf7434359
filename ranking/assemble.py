"""From feature values to the models' input row: the one function both training and the gateway call.

The derived features are vectorised over the candidates; nothing here knows where values came from or how old they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import (
    DERIVED,
    ITEM_PROFILE,
    ITEM_SCALARS,
    ITEM_STATISTICS,
    MAX_ITEM_TOKENS,
    MAX_QUERY_TOKENS,
    MODEL_COLUMNS,
    NEVER_DAYS,
    RELATION_ODDS,
    RELATIONS,
    REQUEST_COLUMNS,
    TASTE_WIDTH,
    USER_BEHAVIOUR,
    USER_PROFILE,
    USER_SCALARS,
    stable_key,
)
from ranking.types import TIERS, Float32Array, IntArray

_USER_DEFAULTS = {f.name: f.default for v in (USER_PROFILE, USER_BEHAVIOUR) for f in v}
_ITEM_DEFAULTS = {f.name: f.default for v in (ITEM_PROFILE, ITEM_STATISTICS) for f in v}
_TIER_CODES = {name: code for code, name in enumerate(TIERS)}
_NEW = _TIER_CODES["new"]
_ORDERS_ALL = USER_SCALARS.index("orders_all")
_PRICE_LEVEL = USER_SCALARS.index("mean_unit_price")
_PRICE = ITEM_SCALARS.index("price_28d")
_TYPE_SHARE, _MAKER_SHARE = ITEM_SCALARS.index("type_share"), ITEM_SCALARS.index("maker_share")
_APPEAL = ITEM_SCALARS.index("promo_appeal")
_RELATION_ODDS = np.array(RELATION_ODDS, np.float32)
_RELATION_RATES = np.array([ITEM_SCALARS.index(f"promo_rate_{name}") for name in RELATIONS])


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's values, ready for matching: key arrays ascending, so that a lookup is a binary search."""

    scalars: Float32Array  # (len(USER_SCALARS),)
    history_keys: IntArray  # (h,) ascending
    history_counts: Float32Array  # (h,)
    history_days: Float32Array  # (h,)
    category_keys: IntArray  # (c,) ascending
    category_shares: Float32Array  # (c,)
    type_keys: IntArray  # (t,) ascending
    type_affinities: Float32Array  # (t,)
    maker_keys: IntArray  # (m,) ascending
    maker_affinities: Float32Array  # (m,)
    taste: Float32Array  # (TASTE_WIDTH,)
    taste_at: int  # the factorisation `taste` is of, 0 where there is none
    interest_text: str


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """``n`` items' values, columnar."""

    keys: IntArray  # (n,) stable_key(item_id)
    scalars: Float32Array  # (n, len(ITEM_SCALARS))
    tiers: NDArray[np.int8]  # (n,) index into TIERS
    category_keys: IntArray  # (n,)
    type_keys: IntArray  # (n,)
    maker_keys: IntArray  # (n,)
    taste: Float32Array  # (n, TASTE_WIDTH)
    taste_at: IntArray  # (n,) the factorisation `taste` is of, 0 where there is none
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
            self.type_keys[rows],
            self.maker_keys[rows],
            self.taste[rows],
            self.taste_at[rows],
            self.token_ids[rows],
            self.text_digests[rows],
            self.attribute_keys[rows],
        )


def user_features(values: Mapping[str, Any]) -> UserFeatures:
    """Build a user from feature values by name; an absent name or None becomes the declared default.

    Args:
        values: scalars as numbers, lists as sequences. Parallel lists (`history_*`, `category_*`, `type_*`, `maker_*`) have equal lengths.

    Raises:
        ValueError: parallel lists differ in length, or a taste vector is not `TASTE_WIDTH` long.
    """
    history, counts, history_days = _parallel(values, "history", "item_keys", "counts", "days")
    categories, shares = _parallel(values, "category", "keys", "shares")
    types, type_affinities = _parallel(values, "type", "keys", "affinities")
    makers, maker_affinities = _parallel(values, "maker", "keys", "affinities")
    return UserFeatures(
        scalars=np.array([_or_default(values, name, _USER_DEFAULTS) for name in USER_SCALARS], np.float32),
        history_keys=history,
        history_counts=counts,
        history_days=history_days,
        category_keys=categories,
        category_shares=shares,
        type_keys=types,
        type_affinities=type_affinities,
        maker_keys=makers,
        maker_affinities=maker_affinities,
        taste=_vectors([values.get("taste")], 1)[0],
        taste_at=int(_integers([values.get("taste_at")], 1)[0]),
        interest_text=str(values.get("interest_text") or ""),
    )


def item_features(keys: IntArray, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> ItemFeatures:
    """Build a block of items from feature columns by name; an absent column or a None/NaN value becomes the declared default.

    Args:
        keys: (n,) int64, `stable_key` of each item id.
        columns: name -> (n,) values; `token_ids` and `taste` hold a sequence (or None) per item, `ITEM_ATTRIBUTES` strings.

    Raises:
        ValueError: a taste vector is not `TASTE_WIDTH` long.
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
        _integers(columns.get("type_key"), n),
        _integers(columns.get("maker_key"), n),
        _vectors(columns.get("taste"), n),
        _integers(columns.get("taste_at"), n),
        tokens,
        _integers(columns.get("text_digest"), n),
        np.stack([_text_keys(columns.get(name), n) for name in ITEM_ATTRIBUTES], axis=1),
    )


def relations(user: UserFeatures, items: ItemFeatures) -> IntArray:
    """(n,) what of each item the user had bought, as an index into `RELATIONS`. O(n log h)."""
    return _relations(*_bought(user, items))


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
        (n, len(MODEL_COLUMNS)) float32. O(n · (log h + q + TASTE_WIDTH)).
    """
    n, u, i = len(items), len(USER_SCALARS), len(ITEM_SCALARS)
    out = np.empty((n, len(MODEL_COLUMNS)), np.float32)
    out[:, :u] = user.scalars
    out[:, u : u + i] = items.scalars
    j = u + i
    for feature in REQUEST_COLUMNS:
        out[:, j] = columns.get(feature.name, np.float32(feature.default or 0.0))
        j += 1

    bought, maker, kind = _bought(user, items)
    relation = _relations(bought, maker, kind)
    count = _at(bought, user.history_counts, 0.0)
    type_affinity, maker_affinity = _at(kind, user.type_affinities, 0.0), _at(maker, user.maker_affinities, 0.0)
    price, level = items.scalars[:, _PRICE], user.scalars[_PRICE_LEVEL]
    derived = {
        "tier_code": items.tiers.astype(np.float32),
        "repeat_count": count,
        "repeat_days": _at(bought, user.history_days, NEVER_DAYS),
        "repeat_share": count / max(user.scalars[_ORDERS_ALL], np.float32(1.0)),
        "category_share": _at(_find(items.category_keys, user.category_keys), user.category_shares, 0.0),
        "relation": relation.astype(np.float32),
        "relation_rate": items.scalars[np.arange(n), _RELATION_RATES[relation]],
        "relation_appeal": items.scalars[:, _APPEAL] * _RELATION_ODDS[relation],
        "type_affinity": type_affinity,
        "type_expected": type_affinity * items.scalars[:, _TYPE_SHARE],
        "maker_affinity": maker_affinity,
        "maker_expected": maker_affinity * items.scalars[:, _MAKER_SHARE],
        "discovery": _discovery(user, items),
        "price_to_level": np.where((price > 0) & (level > 0), price / max(level, np.float32(1e-3)), np.float32(1.0)),
        "query_overlap": _overlap(query_tokens, items.token_ids),
    }
    for feature in DERIVED:
        out[:, j] = derived[feature.name]
        j += 1
    return out


def _bought(user: UserFeatures, items: ItemFeatures) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Where each item, its type by its maker, and its type stand in what the user bought; -1 where they do not."""
    return _find(items.keys, user.history_keys), _find(items.maker_keys, user.maker_keys), _find(items.type_keys, user.type_keys)


def _relations(bought: NDArray[np.intp], maker: NDArray[np.intp], kind: NDArray[np.intp]) -> IntArray:
    return np.select([bought >= 0, maker >= 0, kind >= 0], [0, 1, 2], 3)


def _find(keys: IntArray, table: IntArray) -> NDArray[np.intp]:
    """Where each key stands in the ascending table, -1 where it does not. O(n log h)."""
    if not len(table):
        return np.full(len(keys), -1)
    at = np.minimum(np.searchsorted(table, keys), len(table) - 1)
    return np.where(table[at] == keys, at, -1)


def _at(places: NDArray[np.intp], values: Float32Array, missing: float) -> Float32Array:
    """values[place] for each place, `missing` for -1."""
    return np.append(values, np.float32(missing))[places]


def _discovery(user: UserFeatures, items: ItemFeatures) -> Float32Array:
    """(n,) dot products. Multiplied and then summed row by row, never through BLAS, whose sums depend on how many rows there are."""
    products: Float32Array = (items.taste * user.taste).sum(axis=1)
    return np.where(items.taste_at == user.taste_at, products, np.float32(0.0))


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


def _parallel(values: Mapping[str, Any], name: str, *parts: str) -> list[NDArray[Any]]:
    """The lists `name`_`part` as arrays, ordered by the first, which holds keys."""
    lists = [_array(values.get(f"{name}_{part}"), np.float32 if i else np.int64) for i, part in enumerate(parts)]
    if len({len(x) for x in lists}) > 1:
        lengths = ", ".join(f"{part.removeprefix('item_')} {len(x)}" for part, x in zip(parts, lists, strict=True))
        raise ValueError(f"{name} lists differ in length: {lengths}")
    order = np.argsort(lists[0], kind="stable")
    return [x[order] for x in lists]


def _vectors(values: Any, n: int) -> Float32Array:
    """(n, TASTE_WIDTH) float32, zeros for None and for an empty sequence."""
    if isinstance(values, np.ndarray) and values.dtype == np.float32 and values.ndim == 2:
        return values
    out = np.zeros((n, TASTE_WIDTH), np.float32)
    for row, vector in enumerate(() if values is None else values):
        if vector is not None and len(vector):
            if len(vector) != TASTE_WIDTH:
                raise ValueError(f"taste: need {TASTE_WIDTH} numbers, got {len(vector)}")
            out[row] = vector
    return out


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


def as_unknown_user(x: Float32Array) -> Float32Array:
    """The models' rows of the same items and query as an unknown user would get them.

    Args:
        x: (n, len(MODEL_COLUMNS)) rows of any users.

    Returns:
        (n, len(MODEL_COLUMNS)) float32, by `assemble`: what the gateway makes for a user id it does not know.
    """
    at = {name: j for j, name in enumerate(MODEL_COLUMNS)}
    items = item_features(np.zeros(len(x), np.int64), {name: x[:, at[name]] for name in ITEM_SCALARS})
    items = replace(items, tiers=x[:, at["tier_code"]].astype(np.int8))
    columns = {f.name: x[:, at[f.name]] for f in REQUEST_COLUMNS}
    out = assemble(UNKNOWN_USER, items, query_tokens=np.zeros(0, np.int64), columns=columns)
    out[:, at["query_overlap"]] = x[:, at["query_overlap"]]
    return out
