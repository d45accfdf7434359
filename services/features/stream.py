"""From the event log to the rows that ranking reads: follow, count, compute, push, tell.

Each tick takes in what the log has beyond the state's offset, and pushes the rows of whom that touched: first to the feature store, then
to the item snapshot, then to the counters by which gateways hear of users. Rows are computed whole from all lines, so events may come
late and in any order; a row's event time only ever rises, so whatever was pushed last is what stands. Knows the log, the store and the
snapshot by their ports, and nothing of processes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ranking.assemble import ItemFeatures
from ranking.errors import Unavailable
from ranking.features import ITEM_STATISTICS, LIVE_FEATURES, USER_BEHAVIOUR, Entity, Feature
from ranking.types import FloatArray, IntArray
from services.feature_store.items import items_of
from services.feature_store.port import ENTITY_VIEWS, FeatureRows, FeatureStore, Sink
from services.features.history import History
from services.features.purchases import PoisonError, Purchase, purchase
from services.features.rows import Catalogue, Popularity, item_row, user_row
from services.features.state import Due, State
from services.feedback.log.event_log import EventLog
from services.feedback.types import EventType

log = logging.getLogger(__name__)
_EVENTS = 2000  # taken in at once
_ROWS = 200  # of one view, pushed at once
_STATISTICS = ENTITY_VIEWS[Entity.ITEM].index(ITEM_STATISTICS)


class Store(FeatureStore, Sink, Protocol):
    """Where rows are pushed, and read where the batch knows what events do not say."""

    def revision(self) -> str:
        """See `Catalogue.revision` of the port."""
        ...


class Rows(Protocol):
    """The item snapshot as the stream sees it."""

    def put(self, item_ids: Sequence[str], features: ItemFeatures, event_times: FloatArray, names: Mapping[int, str]) -> None:
        """See `Writer.put`."""
        ...


class Progress(NamedTuple):
    """How far the stream is."""

    offset: int  # of the last event taken in
    behind: int  # events the log has beyond it
    waiting: int  # rows to be pushed
    refused: int  # events that could not be counted, ever


class Stream:
    """One follower of one log; used by one thread."""

    def __init__(
        self,
        events: EventLog,
        state: State,
        store: Store,
        snapshot: Rows,
        catalogue: Callable[[], Catalogue | None],
        changed: Callable[[str], None],
        forgotten: Container[str],
        *,
        history: History,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read yet.

        Args:
            events: the log.
            state: begun from `history`.
            store: where rows go.
            snapshot: where items' rows go as well.
            catalogue: what items are; None: not known yet, so that rows have to wait.
            changed: told each user whose row was pushed.
            forgotten: users that no row is made of, whatever the state still has of them.
            history: what the state was begun from.
            clock: seconds since 1970: the instant that rows are as of, unless events are newer.
        """
        self._events, self._state, self._store, self._snapshot = events, state, store, snapshot
        self._catalogue, self._changed, self._history, self._clock = catalogue, changed, history, clock
        self._forgotten = forgotten
        self._popular: Popularity | None = None
        self._offset: int | None = None

    def tick(self) -> bool:
        """Take in some events and push some rows; whether there is more to do at once.

        Raises:
            Unavailable: log, state or store did not answer; the next tick goes on where this one was.
        """
        return self._take_in() | self._push()

    def overwritten(self, revision: str) -> None:
        """The store was written by others: push again whatever had an event, unless this `revision` is the one known already."""
        if revision != self._state.fact("revision"):
            self._state.all_due(revision=revision)

    def progress(self) -> Progress:
        """Where it stands."""
        behind = max(self._events.last() - self._state.offset(), 0)
        return Progress(self._state.offset(), behind, self._state.due_count(), int(self._state.fact("refused") or 0))

    def _take_in(self) -> bool:
        if self._offset is None:
            self._offset = self._state.offset()
        rows = self._events.read(self._offset, _EVENTS)
        if not rows:
            return False
        purchases: list[Purchase] = []
        refused = 0
        for row in rows:
            if row.event.type is not EventType.PURCHASE:
                continue
            try:
                purchases.append(purchase(row.event))
            except PoisonError as wrong:
                refused += 1
                log.warning("event_refused", extra={"event_id": row.event.event_id, "offset": row.offset, "detail": str(wrong)})
        self._state.take_in(purchases, rows[-1].offset, complete_before=self._history.complete_before, refused=refused)
        self._offset = rows[-1].offset
        return len(rows) == _EVENTS

    def _push(self) -> bool:
        users, items = (self._state.due(kind, _ROWS) for kind in (Entity.USER, Entity.ITEM))
        catalogue = self._catalogue() if users or items else None
        if catalogue is None:
            return False
        now = int(self._clock() * 1e6)
        if items:
            self._push_items(items, now)
        if users:
            self._push_users(users, now, catalogue)
        return max(len(users), len(items)) == _ROWS

    def _push_users(self, users: Sequence[Due], now: int, catalogue: Catalogue) -> None:
        def row(user: Due) -> Mapping[str, Any]:
            at = _as_of(user, now)
            return user_row(self._state.bought(Entity.USER, user.code, at), at, catalogue, self._history.week_starts)

        gone = [user for user in users if user.id in self._forgotten]
        if gone:
            self._done(gone, _stamps(gone, now))
        users, rows = self._computed([user for user in users if user.id not in self._forgotten], now, row)
        if not users:
            return
        stamps = _stamps(users, now)
        columns = {f.name: [row[f.name] for row in rows] for f in USER_BEHAVIOUR}
        self._store.push(USER_BEHAVIOUR, [user.id for user in users], columns, stamps)
        for user in users:
            self._changed(user.id)
        self._done(users, stamps)

    def _push_items(self, items: Sequence[Due], now: int) -> None:
        popular = self._popular = self._popular or Popularity(self._state.purchases(now))

        def row(item: Due) -> Mapping[str, Any]:
            at = _as_of(item, now)
            return item_row(self._state.bought(Entity.ITEM, item.code, at), at, item.code, item.first_shown, popular)

        items, rows = self._computed(items, now, row)
        if not items:
            return
        stamps, ids = _stamps(items, now), [item.id for item in items]
        stored = self._store.read(Entity.ITEM, ids)
        columns = {f.name: _or_default(stored, f) for f in ITEM_STATISTICS}
        columns |= {name: [row[name] for row in rows] for name in LIVE_FEATURES[ITEM_STATISTICS.name]}
        self._store.push(ITEM_STATISTICS, ids, columns, stamps)
        times = stored.event_times.copy()
        times[_STATISTICS] = stamps / 1e6
        features, names = items_of(ids, FeatureRows({**stored.values, **columns}, times))
        self._snapshot.put(ids, features, times, names)
        self._done(items, stamps)

    def _computed(
        self, some: Sequence[Due], now: int, row: Callable[[Due], Mapping[str, Any]]
    ) -> tuple[list[Due], list[Mapping[str, Any]]]:
        """Those whose row makes sense, and their rows; one that fails stays as it was pushed last, for it must not hold up the others."""
        kept: list[Due] = []
        rows: list[Mapping[str, Any]] = []
        for one in some:
            try:
                rows.append(row(one))
                kept.append(one)
            except Unavailable:
                raise
            except Exception:  # the boundary of one row: whatever is in it, the next ones are not to blame
                log.exception("row_failed", extra={"entity": one.id})
                self._done([one], _stamps([one], now))
        return kept, rows

    def _done(self, pushed: Sequence[Due], stamps: IntArray) -> None:
        self._state.pushed({one.code: stamp for one, stamp in zip(pushed, stamps.tolist(), strict=True)})


def _as_of(one: Due, now: int) -> int:
    """The instant a row is as of, µs since 1970: now, or just after its newest event, should clocks differ or history be replayed."""
    return max(now, one.newest + 1)


def _stamps(some: Sequence[Due], now: int) -> IntArray:
    """(n,) event times, µs since 1970, each later than that of the row pushed before."""
    return np.array([max(_as_of(one, now), one.stamp + 1) for one in some], np.int64)


def _or_default(stored: FeatureRows, feature: Feature) -> list[Any]:
    """(n,) what the store has of a feature."""
    return [feature.default if value is None else value for value in stored.values[feature.name]]
