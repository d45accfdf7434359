"""From feature values to the models' input row: the one function both training and the gateway call.

The derived features are vectorised over the candidates; nothing here knows where values came from or how old they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
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
from ranking.lookup import Lookup
from ranking.types import TIERS, Float32Array, IntArray

_USER_DEFAULTS = {f.name: f.default for v in (USER_PROFILE, USER_BEHAVIOUR) for f in v}
_ITEM_DEFAULTS = {f.name: f.default for v in (ITEM_PROFILE, ITEM_STATISTICS) for f in v}
_TIER_CODES = {name: code for code, name in enumerate(TIERS)}
_NEW = _TIER_CODES["new"]
_ORDERS_ALL = USER_SCALARS.index("orders_all")
_PRICE_LEVEL = USER_SCALARS.index("mean_unit_price")
_AT = {name: j for j, name in enumerate(MODEL_COLUMNS)}
_WIDTH, _ITEM, _REQUEST, _DERIVED = len(MODEL_COLUMNS), len(USER_SCALARS), len(USER_SCALARS) + len(ITEM_SCALARS), -len(DERIVED)
_REQUEST_DEFAULTS = np.array([f.default or 0.0 for f in REQUEST_COLUMNS], np.float32)
_RELATION_ODDS = np.array(RELATION_ODDS, np.float32)
_RELATION_RATES = np.array([_AT[f"promo_rate_{name}"] for name in RELATIONS])


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's values, ready for matching."""

    scalars: Float32Array  # (len(USER_SCALARS),)
    history: Lookup  # item key -> times bought, days since
    categories: Lookup  # category key -> share
    types: Lookup  # type key -> affinity
    makers: Lookup  # key of a type by a maker -> affinity
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
    return UserFeatures(
        scalars=np.array([_or_default(values, name, _USER_DEFAULTS) for name in USER_SCALARS], np.float32),
        history=_lookup(values, "history", "item_keys", counts=0.0, days=NEVER_DAYS),
        categories=_lookup(values, "category", "keys", shares=0.0),
        types=_lookup(values, "type", "keys", affinities=0.0),
        makers=_lookup(values, "maker", "keys", affinities=0.0),
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


def arrays(features: UserFeatures | ItemFeatures) -> dict[str, NDArray[Any]]:
    """Everything they are made of, by name, look-ups in their parts: what tells two of them apart, bit by bit."""
    out: dict[str, NDArray[Any]] = {}
    for f in fields(features):
        value = getattr(features, f.name)
        parts = {"": value} if not isinstance(value, Lookup) else {".keys": value.keys, **{f".{i}": c for i, c in enumerate(value.columns)}}
        out |= {f.name + part: np.asarray(array) for part, array in parts.items()}
    return out


def relations(user: UserFeatures, items: ItemFeatures) -> IntArray:
    """(n,) what of each item the user had bought, as an index into `RELATIONS`. O(n log h)."""
    bought, maker, kind = user.history.find(items.keys), user.makers.find(items.maker_keys), user.types.find(items.type_keys)
    return _relations(user, bought, maker, kind)


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
    n = len(items)
    out = np.empty((n, _WIDTH), np.float32)
    out[:, :_ITEM] = user.scalars
    out[:, _ITEM:_REQUEST] = items.scalars
    out[:, _REQUEST:_DERIVED] = _REQUEST_DEFAULTS
    for feature in REQUEST_COLUMNS:
        if feature.name in columns:
            out[:, _AT[feature.name]] = columns[feature.name]
    column = out.T  # of `out` itself, to read and to fill

    bought, maker, kind = user.history.find(items.keys), user.makers.find(items.maker_keys), user.types.find(items.type_keys)
    relation = _relations(user, bought, maker, kind)
    counts, days = user.history.columns
    column[_AT["tier_code"]] = items.tiers
    column[_AT["repeat_count"]] = count = counts.take(bought)
    column[_AT["repeat_days"]] = days.take(bought)
    np.divide(count, max(user.scalars[_ORDERS_ALL], np.float32(1.0)), out=column[_AT["repeat_share"]])
    column[_AT["category_share"]] = user.categories.columns[0].take(user.categories.find(items.category_keys))
    column[_AT["relation"]] = relation
    column[_AT["relation_rate"]] = out.ravel().take(_RELATION_RATES.take(relation) + np.arange(0, n * _WIDTH, _WIDTH))
    np.multiply(column[_AT["promo_appeal"]], _RELATION_ODDS.take(relation), out=column[_AT["relation_appeal"]])
    column[_AT["type_affinity"]] = affinity = user.types.columns[0].take(kind)
    np.multiply(affinity, column[_AT["type_share"]], out=column[_AT["type_expected"]])
    column[_AT["maker_affinity"]] = affinity = user.makers.columns[0].take(maker)
    np.multiply(affinity, column[_AT["maker_share"]], out=column[_AT["maker_expected"]])
    column[_AT["discovery"]] = _discovery(user, items)
    column[_AT["price_to_level"]] = _price_to_level(column[_AT["price_28d"]], user.scalars[_PRICE_LEVEL])
    column[_AT["query_overlap"]] = _overlap(query_tokens, items.token_ids)
    return out


def _relations(user: UserFeatures, bought: NDArray[np.intp], maker: NDArray[np.intp], kind: NDArray[np.intp]) -> IntArray:
    """(n,) from where each item, its type by its maker, and its type stand in what the user bought."""
    return np.where(user.history.has(bought), 0, np.where(user.makers.has(maker), 1, np.where(user.types.has(kind), 2, 3)))


def _price_to_level(price: Float32Array, level: np.float32) -> Float32Array | np.float32:
    """(n,) prices in units of what the user pays; 1 where one of the two is not known."""
    if not level > 0:
        return np.float32(1.0)
    return np.where(price > 0, price / max(level, np.float32(1e-3)), np.float32(1.0))


def _discovery(user: UserFeatures, items: ItemFeatures) -> Float32Array:
    """(n,) dot products. Multiplied and then summed row by row, never through BLAS, whose sums depend on how many rows there are."""
    products: Float32Array = (items.taste * user.taste).sum(axis=1)
    return np.where(items.taste_at == user.taste_at, products, np.float32(0.0))


def _overlap(query_tokens: IntArray, token_ids: NDArray[np.int32]) -> Float32Array | np.float32:
    """(n,) share of the query's distinct tokens that each of (n, t) texts has."""
    distinct = set(query_tokens[:MAX_QUERY_TOKENS].tolist())  # what the text member reads
    if not distinct or not token_ids.size:
        return np.float32(0.0)
    # One bit per query token (at most 24) in a table by token id: a row's tokens are ORed, so a token that stands twice counts once.
    bits = np.zeros(int(token_ids.max()) + 1, np.uint32)
    for bit, token in enumerate(distinct):
        if token < len(bits):
            bits[token] = 1 << bit
    found = np.bitwise_count(np.bitwise_or.reduce(bits.take(token_ids), axis=1))
    shared: Float32Array = found.astype(np.float32)
    return shared / np.float32(len(distinct))


def _or_default(values: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> Any:
    value = values.get(name)
    return defaults[name] if _is_null(value) else value


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _array(values: Any, dtype: type[np.generic]) -> NDArray[Any]:
    return np.asarray(() if values is None else values, dtype)


def _lookup(values: Mapping[str, Any], name: str, keys: str, **absent: float) -> Lookup:
    """The list `name`_`keys` with those of `absent` beside it, and what each has for a key that is not there."""
    lists = {part: _array(values.get(f"{name}_{part}"), np.float32) for part in absent}
    found = _array(values.get(f"{name}_{keys}"), np.int64)
    sizes = {keys.removeprefix("item_"): len(found), **{part: len(of) for part, of in lists.items()}}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{name} lists differ in length: {', '.join(f'{part} {size}' for part, size in sizes.items())}")
    return Lookup.of(found, *((of, absent[part]) for part, of in lists.items()))


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
    items = item_features(np.zeros(len(x), np.int64), {name: x[:, _AT[name]] for name in ITEM_SCALARS})
    items = replace(items, tiers=x[:, _AT["tier_code"]].astype(np.int8))
    columns = {f.name: x[:, _AT[f.name]] for f in REQUEST_COLUMNS}
    out = assemble(UNKNOWN_USER, items, query_tokens=np.zeros(0, np.int64), columns=columns)
    out[:, _AT["query_overlap"]] = x[:, _AT["query_overlap"]]
    return out
