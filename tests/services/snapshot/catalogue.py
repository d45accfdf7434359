"""Items for snapshots to hold: any bits at all, or rows that say themselves whether they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from ranking.assemble import ItemFeatures, item_features
from ranking.features import stable_key
from ranking.types import FloatArray
from services.snapshot.layout import ITEM_VIEWS

VIEWS = len(ITEM_VIEWS)


def any_items(ids: Sequence[str], seed: int) -> ItemFeatures:
    """Every column random bits, NaNs and negative zeros among them; token ids within 16 bits, keys those of the ids."""
    blank, rng = unknown(ids), np.random.default_rng(seed)
    columns = {f.name: getattr(blank, f.name) for f in fields(ItemFeatures)}
    random = {n: np.frombuffer(rng.bytes(c.nbytes), c.dtype).reshape(c.shape).copy() for n, c in columns.items() if n != "keys"}
    random["token_ids"] &= 0xFFFF
    few = rng.integers(0, 3, len(ids))  # some items share their texts, groups and tastes
    for name in ("token_ids", "text_digests", "category_keys", "attribute_keys", "taste"):
        random[name][few == 0] = random[name][:1]
    return ItemFeatures(keys=blank.keys, **random)


def marked(ids: Sequence[str], mark: int) -> ItemFeatures:
    """Items that have one number, at most 127, everywhere, so that a mixture of two of them is seen."""
    out = unknown(ids)
    for f in fields(ItemFeatures):
        if f.name != "keys":
            getattr(out, f.name)[:] = mark
    return out


def marks(items: ItemFeatures) -> list[set[float]]:
    """Which numbers each item has anywhere; one, where it is whole."""
    columns = [np.asarray(getattr(items, f.name), np.float64).reshape(len(items), -1) for f in fields(ItemFeatures) if f.name != "keys"]
    return [set(row.tolist()) for row in np.concatenate(columns, axis=1)]


def unknown(ids: Sequence[str]) -> ItemFeatures:
    """Declared defaults."""
    return item_features(np.array([stable_key(i) for i in ids], np.int64), {})


def at(time: float, n: int) -> FloatArray:
    """(views, n) event times, all the same."""
    return np.full((VIEWS, n), time)


def same(a: ItemFeatures, b: ItemFeatures) -> bool:
    """Bit by bit, dtypes and shapes too."""
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(ItemFeatures)]
    return all(x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in pairs)
