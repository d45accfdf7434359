"""One feature of n entities as numpy arrays: plain numbers, or texts and lists as offsets into all of their values, as in Arrow.

Made from what a feature store returns or from a block of items; a value there is none of becomes the declared default here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import ITEM_SCALARS, Dtype, Feature
from ranking.types import TIERS, IntArray

_KINDS: dict[Dtype, str] = {"float32": "<f4", "int64": "<i8", "string": "u1", "float32_list": "<f4", "int64_list": "<i8"}


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one feature."""

    values: NDArray[Any]  # numbers (n,); of texts their UTF-8 bytes, of lists their elements, one after the other
    offsets: NDArray[np.int32] | None = None  # (n + 1,) of texts and lists: where each begins, and the end

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + (0 if self.offsets is None else self.offsets.nbytes))

    def take(self, rows: IntArray) -> Column:
        """The entities at `rows`, ascending and each once."""
        if self.offsets is None:
            return Column(self.values[rows])
        lengths = np.diff(_ends(self))
        chosen = np.zeros(len(lengths), bool)
        chosen[rows] = True
        return _ragged(self.values[np.repeat(chosen, lengths)], lengths[rows])


def from_values(feature: Feature, values: Sequence[Any] | NDArray[Any] | None, n: int) -> Column:
    """What a store returned for n entities; None, and NaN in place of a number, becomes the default.

    Args:
        feature: what it is.
        values: (n,) or None for no values at all.
        n: how many entities.
    """
    kind = _KINDS[feature.dtype]
    if feature.dtype == "float32":
        numbers = np.asarray([None] * n if values is None else values, np.float32)  # None becomes NaN
        return Column(np.where(np.isnan(numbers), np.float32(feature.default or 0.0), numbers).astype(kind))
    default = feature.default
    given: Sequence[Any] = [default] * n if values is None else [default if v is None else v for v in values]
    if feature.dtype == "int64":
        return Column(np.array(given, np.int64).astype(kind))
    if feature.dtype == "string":
        return _texts(given)
    return _lists([() if v is None else v for v in given], kind)


def from_items(feature: Feature, items: ItemFeatures, names: Mapping[int, str]) -> Column:
    """The same out of a block of items, as `from_values` has it from the store that the items were made of.

    Args:
        feature: one of `HELD`.
        items: (n,)
        names: what attribute keys stand for.
    """
    return HELD[feature.name](items, names)


def scattered(n: int, parts: Sequence[tuple[IntArray, Column]]) -> Column:
    """One column of n entities out of columns for some of them.

    Args:
        n: how many.
        parts: for each, the places of its entities and their column; together they are all n, each once.
    """
    values = parts[0][1].values
    if parts[0][1].offsets is None:
        out = np.empty(n, values.dtype)
        for rows, part in parts:
            out[rows] = part.values
        return Column(out)
    lengths = np.zeros(n, np.int64)
    for rows, part in parts:
        lengths[rows] = np.diff(_ends(part))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    out = np.empty(int(ends[-1]), values.dtype)
    for rows, part in parts:
        begins = _ends(part)[:-1]
        moved = np.repeat(ends[rows] - begins, np.diff(_ends(part)))  # how far each element goes
        out[moved + np.arange(len(part.values))] = part.values
    return Column(out, ends.astype("<i4"))


def _ends(column: Column) -> NDArray[np.int64]:
    assert column.offsets is not None
    return column.offsets.astype(np.int64)


def _ragged(values: NDArray[Any], lengths: NDArray[np.int64]) -> Column:
    return Column(values, np.concatenate([[0], np.cumsum(lengths)]).astype("<i4"))


def _texts(texts: Sequence[str]) -> Column:
    encoded = [text.encode() for text in texts]
    return _ragged(np.frombuffer(b"".join(encoded), np.uint8), np.array([len(text) for text in encoded], np.int64))


def _lists(lists: Sequence[Any], kind: str) -> Column:
    arrays = [np.asarray(values, kind) for values in lists]
    return _ragged(np.concatenate([np.empty(0, kind), *arrays]), np.array([len(a) for a in arrays], np.int64))


def _prefixes(table: NDArray[Any], lengths: NDArray[np.int64], kind: str) -> Column:
    """The first so many values of each row."""
    used = np.arange(table.shape[1]) < lengths[:, None]
    return _ragged(table[used].astype(kind), lengths)


def _scalar(j: int) -> Callable[[ItemFeatures, Mapping[int, str]], Column]:
    return lambda items, _: Column(items.scalars[:, j].astype("<f4"))


def _key(name: str) -> Callable[[ItemFeatures, Mapping[int, str]], Column]:
    return lambda items, _: Column(getattr(items, name).astype("<i8"))


def _attribute(j: int) -> Callable[[ItemFeatures, Mapping[int, str]], Column]:
    return lambda items, names: _texts([names[key] for key in items.attribute_keys[:, j].tolist()])


def _tier(items: ItemFeatures, _: Mapping[int, str]) -> Column:
    return _texts([TIERS[code] for code in items.tiers.tolist()])


def _tokens(items: ItemFeatures, _: Mapping[int, str]) -> Column:
    ids = items.token_ids
    last = ids.shape[1] - np.argmax(ids[:, ::-1] != 0, axis=1)  # 0 pads, and is no token of a text
    return _prefixes(ids, np.where(ids.any(axis=1), last, 0), "<i8")


def _taste(items: ItemFeatures, _: Mapping[int, str]) -> Column:
    has = (items.taste_at != 0) | items.taste.any(axis=1)
    return _prefixes(items.taste, np.where(has, items.taste.shape[1], 0), "<f4")


HELD: dict[str, Callable[[ItemFeatures, Mapping[int, str]], Column]] = {
    **{name: _scalar(j) for j, name in enumerate(ITEM_SCALARS)},
    **{name: _attribute(j) for j, name in enumerate(ITEM_ATTRIBUTES)},
    **{
        name: _key(column) for name, column in {"category_key": "category_keys", "type_key": "type_keys", "maker_key": "maker_keys"}.items()
    },
    "text_digest": _key("text_digests"),
    "taste_at": _key("taste_at"),
    "popularity_tier": _tier,
    "token_ids": _tokens,
    "taste": _taste,
}
"""The features that a block of items has, and so the snapshot; the others are read from the store."""
