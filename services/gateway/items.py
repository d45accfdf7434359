"""The item table: features of items the snapshot lacks, as growing columns, so that gathering a warm list is a few array reads.

It holds what the snapshot does not have yet, or everything while there is no snapshot. Feast stays the source of truth: a row is a copy
with the time it was read. Knows nothing of where rows come from or go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures, item_features
from ranking.features import Entity, stable_key
from ranking.types import FloatArray, IntArray
from services.feature_store.items import items_of
from services.feature_store.port import ENTITY_VIEWS, FeatureRows

_COLUMNS = tuple(f.name for f in fields(ItemFeatures))
_FIRST_CAPACITY = 1024
_V = len(ENTITY_VIEWS[Entity.ITEM])


def unknown_items(item_ids: Sequence[str]) -> ItemFeatures:
    """What items without any stored feature look like: declared defaults under their own keys."""
    return item_features(np.fromiter(map(stable_key, item_ids), np.int64, len(item_ids)), {})


class ItemTable:
    """Rows by item id. Not thread-safe: it lives on the event loop."""

    def __init__(self, capacity: int) -> None:
        """Hold at most `capacity` items; beyond it the half used least lately goes."""
        self._limit = capacity
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._features = unknown_items(())
        self._names: dict[int, str] = {0: ""}
        self._event_times = np.empty((_V, 0))
        self._read_at = np.empty(0)
        self._used_at = np.empty(0)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def names(self) -> Mapping[int, str]:
        """What each key in `ItemFeatures.attribute_keys` stands for; holds the keys of every row gathered before it was asked for."""
        return self._names

    def rows(self, item_ids: Sequence[str]) -> IntArray:
        """(n,) row of each item, -1 where the table has none."""
        return np.fromiter(map(self._rows.get, item_ids, repeat(-1)), np.int64, len(item_ids))

    def gather(self, rows: IntArray, now: float) -> tuple[ItemFeatures, FloatArray]:
        """The features of `rows` (all ≥ 0) and their (views, n) event times; marks them as used at `now`."""
        self._used_at[rows] = now
        return self._features.take(rows), self._event_times[:, rows]

    def expired(self, rows: IntArray, before: float) -> list[str]:
        """Ids of those `rows` that were read before `before`."""
        return [self._ids[r] for r in rows[self._read_at[rows] < before]]

    def put(self, item_ids: Sequence[str], read: FeatureRows, now: float) -> None:
        """Insert or replace rows. At most `capacity` ids at once."""
        features, names = items_of(item_ids, read)
        fresh = [i for i in dict.fromkeys(item_ids) if i not in self._rows]
        if len(self._rows) + len(fresh) > self._limit:
            self._evict(min(self._limit // 2, self._limit - len(item_ids)))  # of `item_ids` even those it holds may have to go
            fresh = [i for i in dict.fromkeys(item_ids) if i not in self._rows]
        self._reserve(len(self._ids) + len(fresh))
        for item in fresh:
            self._rows[item] = len(self._ids)
            self._ids.append(item)
        self._names.update(names)
        rows = self.rows(item_ids)
        for name in _COLUMNS:
            getattr(self._features, name)[rows] = getattr(features, name)
        self._event_times[:, rows] = read.event_times
        self._read_at[rows] = now
        self._used_at[rows] = now

    def touch(self, item_ids: Sequence[str], now: float) -> None:
        """Count these rows as read at `now` although they were not: a refresh is under way, or failed and is tried again later."""
        rows = self.rows(item_ids)
        self._read_at[rows[rows >= 0]] = now

    def _reserve(self, size: int) -> None:
        have = len(self._read_at)
        if size > have:
            self._keep(np.arange(have), max(size, 2 * have, _FIRST_CAPACITY))

    def _evict(self, keep: int) -> None:
        n = len(self._ids)
        kept = np.sort(np.argsort(-self._used_at[:n], kind="stable")[: max(keep, 0)])
        self._ids = [self._ids[i] for i in kept]
        self._rows = {item: row for row, item in enumerate(self._ids)}
        self._keep(kept, len(self._read_at))
        self._names = {key: self._names[key] for key in np.unique(self._features.attribute_keys).tolist()}

    def _keep(self, rows: NDArray[np.int64], capacity: int) -> None:
        """Move `rows` to the front of columns of `capacity` rows."""
        old = self._features.take(rows)
        self._features = ItemFeatures(**{name: _resized(getattr(old, name), capacity) for name in _COLUMNS})
        self._event_times = _resized(self._event_times.T[rows], capacity).T
        self._read_at = _resized(self._read_at[rows], capacity)
        self._used_at = _resized(self._used_at[rows], capacity)


def _resized(column: NDArray[Any], capacity: int) -> NDArray[Any]:
    out = np.zeros((capacity, *column.shape[1:]), column.dtype)
    out[: len(column)] = column
    return out
