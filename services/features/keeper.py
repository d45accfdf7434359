"""Keeps the item snapshot: makes it from the feature store when there is none, when the store changed, when it is old, damaged,
or no longer stands under its name.

The store is read in batches, without haste where there is a snapshot that gateways believe; rows put meanwhile go into the file there is,
and again into the one that takes its place. Knows the store by its port and nothing of processes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ranking.assemble import ItemFeatures
from ranking.errors import Unavailable
from ranking.features import Entity
from ranking.types import FloatArray
from services.feature_store.items import items_of
from services.feature_store.port import Catalogue, FeatureStore
from services.snapshot.latest import AHEAD_S, RECHECK_S
from services.snapshot.snapshot import Snapshot
from services.snapshot.table import joined
from services.snapshot.writer import Writer

log = logging.getLogger(__name__)
_Update = tuple[Sequence[str], ItemFeatures, FloatArray, Mapping[int, str]]


class Store(FeatureStore, Catalogue, Protocol):
    """What a snapshot is made from."""


class Keeper:
    """Owns the writer. `look` and `build` are called by one thread, `put` by any."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        *,
        refresh_s: float,
        stale_s: float = float("inf"),
        batch: int,
        stop: threading.Event,
        recheck_s: float = RECHECK_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read yet.

        Args:
            store: the source of truth.
            writer: of the snapshot.
            refresh_s: age at which it is made again, in seconds.
            stale_s: age beyond which gateways do not believe it, in seconds: it is then made in haste.
            batch: items read at once.
            stop: set: a build ends without having made anything.
            recheck_s: time between two readings of all of the file, as gateways read it, in seconds.
            clock: seconds since 1970.
        """
        self._store, self._writer = store, writer
        self._refresh_s, self._stale_s, self._batch, self._stop, self._clock = refresh_s, stale_s, batch, stop, clock
        self._recheck_s, self._checked = recheck_s, time.monotonic()
        self._writing = threading.Lock()
        self._since: list[_Update] | None = None  # rows put since the build under way began

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot as it is now, None where there is none yet."""
        return self._writer.snapshot

    def look(self) -> bool:
        """Make the snapshot if it is due; returns whether it was made.

        Raises:
            Unavailable: the store did not answer; what there is stands.
        """
        source = self._store.revision()
        whole = time.monotonic() - self._checked >= self._recheck_s
        with self._writing:
            standing = self._writer.standing(whole=whole)
        if whole:
            self._checked = time.monotonic()
        snapshot = self._writer.snapshot
        if standing and snapshot is not None and snapshot.header.source == source and self._believed(snapshot, self._refresh_s):
            return False
        return self.build(source)

    def build(self, source: str) -> bool:
        """Read every item there is and replace the snapshot; False where it was told to stop.

        Raises:
            Unavailable: the store did not answer; what there is stands.
        """
        started, as_of = time.monotonic(), self._clock()
        with self._writing:
            self._since = []
            standing = self._writer.standing(whole=True)  # a damaged one does not even say which items there are
        try:
            before = self._writer.snapshot
            ids = list(dict.fromkeys([*self._store.ids(Entity.ITEM), *(before.ids() if before is not None else ())]))
            read = self._read(ids, haste=not (standing and before is not None and self._believed(before, self._stale_s)))
            if read is None:
                return False
            with self._writing:
                self._writer.build(ids, *read, as_of=as_of, source=source)
                for update in self._since:
                    self._writer.put(*update)
                self._since = None
        finally:
            self._since = None
        made, self._checked = self._writer.snapshot, time.monotonic()
        assert made is not None
        took = round(time.monotonic() - started, 3)
        log.info("snapshot_built", extra={"generation": made.header.generation, "items": len(made), "seconds": took})
        return True

    def _believed(self, snapshot: Snapshot, at_most_s: float) -> bool:
        """Whether it is no older than that, nor of a time to come: the clock was set back."""
        return -AHEAD_S <= self._clock() - snapshot.as_of < at_most_s

    def put(self, item_ids: Sequence[str], features: ItemFeatures, event_times: FloatArray, names: Mapping[int, str]) -> None:
        """See `Writer.put`; before there is a snapshot the rows are only kept for it if it is being made."""
        with self._writing:
            if self._since is not None:
                self._since.append((item_ids, features, event_times, names))
            if self._writer.snapshot is not None:
                self._writer.put(item_ids, features, event_times, names)

    def _read(self, ids: Sequence[str], *, haste: bool) -> tuple[ItemFeatures, FloatArray, dict[int, str]] | None:
        """Features, event times and attribute names of all of `ids`; without haste every other moment is left to others."""
        if not ids:
            raise Unavailable("feature store: it has no items yet")
        parts: list[ItemFeatures] = []
        times: list[FloatArray] = []
        names: dict[int, str] = {}
        for at in range(0, len(ids), self._batch):
            began = time.monotonic()
            some = ids[at : at + self._batch]
            rows = self._store.read(Entity.ITEM, some)
            features, said = items_of(some, rows)
            parts.append(features)
            times.append(rows.event_times)
            names |= said
            if self._stop.wait(0.0 if haste else time.monotonic() - began):
                return None
        return joined(parts), np.concatenate(times, axis=1), names
