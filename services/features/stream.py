"""From the event log to the rows that ranking reads: follow, count, compute, push, tell.

Each tick takes in what the log has beyond the state's offset, and pushes the rows of whom that touched: first to the feature store, then
to the item snapshot, then to the counters by which gateways hear of users. Rows are computed whole from all lines, so events may come
late and in any order; a row's event time never falls, so whatever was pushed last is what stands. A session's row is as old as the
user's newest event, every other row is as of its making. Knows log, store and snapshot by their ports, and nothing of processes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import numpy as np

from ranking.assemble import ItemFeatures
from ranking.errors import Unavailable
from ranking.features import ITEM_LIVE, ITEM_STATISTICS, ITEM_WINDOWS, USER_BEHAVIOUR, USER_SESSION, Entity, Feature, View, stable_key
from ranking.live import item_live, user_session
from ranking.privacy import tombstone
from ranking.types import FloatArray, IntArray
from services.feature_store.items import items_of
from services.feature_store.port import ENTITY_VIEWS, FeatureRows, FeatureStore, Sink
from services.features.history import BatchRows, History
from services.features.metrics import FeatureMetrics
from services.features.purchases import Happening, PoisonError, happening
from services.features.rows import Catalogue, Popularity, item_row, user_row, windows_row
from services.features.state import Due, State
from services.feedback.log.event_log import EventLog, Unreadable

log = logging.getLogger(__name__)
_EVENTS = 2000  # taken in at once
_ROWS = 200  # of one view, pushed at once
_STATISTICS = ENTITY_VIEWS[Entity.ITEM].index(ITEM_STATISTICS)


Pushed = Callable[[View, Sequence[str], Mapping[str, Sequence[Any]], IntArray], None]
"""As `Sink.push`."""


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
    lag_s: float  # since the oldest event was recorded that is not in the store yet; 0: all are, or it is not known
    notice: str  # what people should know of the log; empty: nothing


def progress(events: EventLog, state: State) -> Progress:
    """How far whoever keeps this state is in this log.

    Raises:
        Unavailable: one of them did not answer.
    """
    offset = state.offset()
    behind = max(events.last() - offset, 0)
    oldest = state.oldest_due() or (offset + 1 if behind else 0)
    recorded = [row.recorded_ns for row in events.read(oldest - 1, 1) if row.recorded_ns] if oldest else []
    lag_s = round(max(time.time() - recorded[0] / 1e9, 0.0), 3) if recorded else 0.0
    return Progress(offset, behind, state.due_count(), int(state.fact("refused") or 0), lag_s, state.fact("notice"))


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
        pushed: Pushed,
        metrics: FeatureMetrics,
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
            pushed: told every row that was pushed.
            metrics: of events and pushes.
            clock: seconds since 1970: the instant that rows are as of, unless events are newer.
        """
        self._events, self._state, self._store, self._snapshot = events, state, store, snapshot
        self._catalogue, self._changed, self._history, self._clock = catalogue, changed, history, clock
        self._forgotten, self._pushed_rows, self._metrics = forgotten, pushed, metrics
        self._checked = False  # that the log is the one that was read so far
        self._popular: Popularity | None = None
        self._batch: dict[View, BatchRows] = {}
        self._rows: dict[View, Callable[[Due, int, Catalogue], Mapping[str, Any]]] = {
            ITEM_STATISTICS: self._statistics,
            USER_BEHAVIOUR: self._behaviour,
            ITEM_WINDOWS: self._windows,
            ITEM_LIVE: self._live,
            USER_SESSION: self._session,
        }

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
        return progress(self._events, self._state)

    def _take_in(self) -> bool:
        offset = self._state.offset()
        rows = self._events.read(offset, _EVENTS)
        if not self._same_log(offset):  # asked after reading: what was read is then of the log that it is said to be
            return True
        if not rows:
            return False
        happenings: list[Happening] = []
        for row in rows:
            try:
                if isinstance(row.event, Unreadable):
                    raise PoisonError(row.event.reason)
                happenings.append(happening(row.offset, row.event))
            except PoisonError as wrong:
                detail = f"{wrong}; it is not counted, and stays in the event log at this offset"
                log.warning("event_refused", extra={"event_id": row.event.event_id, "offset": row.offset, "detail": detail})
        refused = len(rows) - len(happenings)
        self._state.take_in(
            happenings,
            rows[-1].offset,
            newest=stable_key(rows[-1].event.event_id),
            complete_before=self._history.complete_before,
            now=int(self._clock() * 1e6),
            refused=refused,
        )
        self._metrics.took_in(len(happenings), refused)
        return len(rows) == _EVENTS

    def _same_log(self, offset: int) -> bool:
        """Whether the log is the one that was read so far; another one is followed from its beginning.

        Raises:
            Unavailable: it is an older copy, whose offsets mean other events from some point on.
        """
        head, known = self._events.head(), self._state.fact("log")
        if known and head.identity != known:
            at = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
            notice = f"event log: another one was found at {at}; after {offset} events of the one before it is read from its beginning"
            log.warning("event_log_replaced", extra={"detail": notice})
            self._state.follow(head.identity, notice=notice)
            self._checked = False
            return False
        if head.given < offset or not (self._checked or self._ends_alike(offset)):
            raise Unavailable(
                f"event log: an older copy of it took its place: {offset} events were taken in, and it does not have them all; restore the "
                f"newer one, or stop the process and move {self._state.path} away: features are then made anew of history and this log"
            )
        if not known:
            self._state.note(log=head.identity)
        self._checked = True
        return True

    def _ends_alike(self, offset: int) -> bool:
        """Whether the last event taken in stands where it stood, as far as that can be told."""
        newest = self._state.fact("newest")
        rows = self._events.read(offset - 1, 1) if newest else []
        return not rows or rows[0].offset != offset or stable_key(rows[0].event.event_id) == int(newest)

    def _push(self) -> bool:
        """The rows of each view that wait, items before users: who is told of a user's row finds the items' there."""
        due = {view: some for view in self._rows if (some := self._state.due(view, _ROWS))}
        catalogue = self._catalogue() if due else None
        if catalogue is None:
            return False
        if self._state.fact("history") != self._history.identity:
            raise Unavailable("feature state: it is not what it was; it is made anew")
        now = int(self._clock() * 1e6)
        for view, waiting in due.items():
            some = self._remembered(view, waiting, now) if view.entity is Entity.USER else waiting
            kept, rows = self._computed(view, some, now, catalogue)
            if kept:
                self._pushed_or_left(view, kept, rows, _stamps(view, kept, now))
        return max(map(len, due.values())) == _ROWS

    def _remembered(self, view: View, users: Sequence[Due], now: int) -> list[Due]:
        """Those who were not forgotten; of the others no row is to be made."""
        gone = [user for user in users if user.id in self._forgotten]
        if gone:
            self._done(view, gone, _stamps(view, gone, now))
        return [user for user in users if user.id not in self._forgotten]

    def _pushed_or_left(self, view: View, some: Sequence[Due], rows: Sequence[Mapping[str, Any]], stamps: IntArray) -> None:
        """Push rows together, or one by one where the store takes one of them for nonsense: that one stays as it was pushed last."""
        try:
            self._pushed(view, some, rows, stamps)
        except ValueError as wrong:
            if len(some) == 1:
                log.error("row_failed", extra={"entity": _named(view, some[0]), "detail": str(wrong)})
                self._done(view, some, stamps)
                return
            for i, (one, row) in enumerate(zip(some, rows, strict=True)):
                self._pushed_or_left(view, [one], [row], stamps[i : i + 1])

    def _pushed(self, view: View, some: Sequence[Due], rows: Sequence[Mapping[str, Any]], stamps: IntArray) -> None:
        ids = [one.id for one in some]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        if view is ITEM_STATISTICS:
            stored = self._store.read(Entity.ITEM, ids)
            columns = {f.name: self._known_to_batch(view, f, ids, _or_default(stored, f)) for f in view} | columns
        if view is ITEM_WINDOWS:
            columns = {f.name: self._known_to_batch(view, f, ids, [f.default] * len(ids)) for f in view} | columns
        started = time.perf_counter()
        self._store.push(view, ids, columns, stamps)
        self._metrics.pushed(view.name, len(ids), time.perf_counter() - started)
        self._pushed_rows(view, ids, columns, stamps)
        if view is ITEM_STATISTICS:
            times = stored.event_times.copy()
            times[_STATISTICS] = stamps / 1e6
            features, names = items_of(ids, FeatureRows({**stored.values, **columns}, times))
            self._snapshot.put(ids, features, times, names)
        if view is USER_BEHAVIOUR:
            for user in ids:
                self._changed(user)
        self._done(view, some, stamps)

    def _known_to_batch(self, view: View, feature: Feature, ids: Sequence[str], otherwise: Sequence[Any]) -> list[Any]:
        if view not in self._batch:
            self._batch[view] = BatchRows(self._history.layout, view, int(self._clock() * 1e6))
        return self._batch[view].values(feature.name, ids, otherwise)

    def _computed(self, view: View, some: Sequence[Due], now: int, catalogue: Catalogue) -> tuple[list[Due], list[Mapping[str, Any]]]:
        """Those whose row makes sense, and their rows; one that fails stays as it was pushed last, for it must not hold up the others."""
        kept: list[Due] = []
        rows: list[Mapping[str, Any]] = []
        for one in some:
            try:
                rows.append(self._rows[view](one, _as_of(one, now), catalogue))
                kept.append(one)
            except Unavailable:
                raise
            except Exception:  # the boundary of one row: whatever is in it, the next ones are not to blame
                log.exception("row_failed", extra={"entity": _named(view, one)})
                self._done(view, [one], _stamps(view, [one], now))
        return kept, rows

    def _statistics(self, item: Due, at: int, _: Catalogue) -> Mapping[str, Any]:
        if self._popular is None:
            self._popular = Popularity(self._state.purchases(int(self._clock() * 1e6)))
        return item_row(self._state.bought(Entity.ITEM, item.code, at), at, item.code, item.first_shown, self._popular)

    def _behaviour(self, user: Due, at: int, catalogue: Catalogue) -> Mapping[str, Any]:
        return user_row(self._state.bought(Entity.USER, user.code, at), at, catalogue, self._history.week_starts)

    def _windows(self, item: Due, at: int, _: Catalogue) -> Mapping[str, Any]:
        return windows_row(self._state.bought(Entity.ITEM, item.code, at), at)

    def _live(self, item: Due, at: int, _: Catalogue) -> Mapping[str, Any]:
        return item_live(self._state.tally(item.code), at)

    def _session(self, user: Due, at: int, _: Catalogue) -> Mapping[str, Any]:
        return user_session(self._state.recent(user.code))

    def _done(self, view: View, pushed: Sequence[Due], stamps: IntArray) -> None:
        self._state.pushed(view, {one.code: stamp for one, stamp in zip(pushed, stamps.tolist(), strict=True)})


def _as_of(one: Due, now: int) -> int:
    """The instant a row is as of, µs since 1970: now, or just after its newest event, should clocks differ or history be replayed."""
    return max(now, one.newest + 1)


def _stamps(view: View, some: Sequence[Due], now: int) -> IntArray:
    """(n,) event times, µs since 1970, each later than that of the row pushed before; of sessions no earlier: stores take equal ones."""
    if view is USER_SESSION:  # windows have moved on by now, but nothing was done since
        return np.array([max(one.newest, one.stamp) for one in some], np.int64)
    return np.array([max(_as_of(one, now), one.stamp + 1) for one in some], np.int64)


def _named(view: View, one: Due) -> str:
    """An entity as logs know it: a user by the digest that also stands for one who was forgotten."""
    return tombstone(one.id).hex() if view.entity is Entity.USER else one.id


def _or_default(stored: FeatureRows, feature: Feature) -> list[Any]:
    """(n,) what the store has of a feature."""
    return [feature.default if value is None or value != value else value for value in stored.values[feature.name]]  # noqa: PLR0124 - NaN
