"""Keeps a stream going: begins its state from the batch's history, lets it tick, and outlives whatever fails.

Runs on a thread of its own, with a store and a log of its own.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ranking.assemble import ItemFeatures
from ranking.errors import LongtailError, Unavailable
from ranking.features import Entity
from ranking.layout import Layout
from services.feature_store.changes import Changes
from services.feature_store.items import items_of
from services.features import history
from services.features.blank import write_blanks
from services.features.history import History
from services.features.keeper import Keeper
from services.features.metrics import FeatureMetrics
from services.features.pushed import PushedRows
from services.features.rows import Catalogue
from services.features.state import State
from services.features.stream import Store, Stream, progress
from services.feedback.log.event_log import EventLog
from services.snapshot.snapshot import Snapshot

log = logging.getLogger(__name__)
_SAY_S = 1.0  # how often it is told how far it is
_CAUGHT_UP_S = 5.0  # nothing is to be done at once, and no event waits longer: it follows


class Follower:
    """One stream after the other: a new one when the batch has run."""

    def __init__(
        self,
        layout: Layout,
        events: EventLog,
        store: Store,
        keeper: Keeper,
        forgotten: Container[str],
        stop: threading.Event,
        *,
        poll_s: float,
        look_s: float,
        keep_s: float,
        metrics: FeatureMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read yet.

        Args:
            layout: where state and history are.
            events: the log.
            store: where rows go.
            keeper: of the item snapshot.
            forgotten: users that no row is made of.
            stop: set: `run` returns after the tick at hand.
            poll_s: how often a log without news is asked.
            look_s: how often it is asked whether the batch has run, and at least how long is waited after a failure.
            keep_s: how long rows that were pushed are kept offline, in seconds.
            metrics: of what the stream does.
            clock: seconds since 1970, for what rows are as of.
        """
        self._layout, self._events, self._store, self._keeper, self._stop = layout, events, store, keeper, stop
        self._forgotten = forgotten
        self._poll_s, self._look_s, self._clock = poll_s, look_s, clock
        self._state, self._metrics = State(layout.feature_state), metrics
        self._pushed = PushedRows(layout.pushed_rows, forgotten, keep_s=keep_s)
        self._stream: Stream | None = None
        self._history: History | None = None
        self._changes: Changes | None = None
        self._following = False
        self._told: dict[str, Any] = {}
        self._told_at = time.monotonic()

    def run(self) -> None:
        """Until told to stop."""
        failure, looked, said = "", float("-inf"), float("-inf")
        while not self._stop.is_set():
            try:
                self._pushed.write(all_of_them=False)
                now = time.monotonic()
                if self._stream is None or now - looked >= self._look_s:
                    stream, looked = self._look(), now
                else:
                    stream = self._stream
                more = stream.tick()
                if failure or now - said >= _SAY_S:
                    self._tell()
                    said = now
                    self._following = self._following or (not more and self._told["lag_s"] <= _CAUGHT_UP_S)
                failure = self._say("")
                self._stop.wait(0.0 if more else self._poll_s)
            except Exception as error:  # the thread's boundary: ended, no event would count any more
                self._metrics.failed()
                detail = str(error) or type(error).__name__
                if detail != failure:  # once while it goes on failing alike
                    log.error("stream_failed", exc_info=not isinstance(error, LongtailError), extra={"detail": detail})
                with suppress(Exception):  # the boundary too: where log or state fail nobody knows how far it is
                    self._tell()
                failure, self._stream = self._say(detail), None  # whatever it was: the next one asks anew what there is
                self._stop.wait(min(self._look_s, 1.0))
        self._told_at = math.inf  # whoever has ended is not late
        self._pushed.write(all_of_them=True)
        self._state.close()
        self._events.close()

    def status(self) -> dict[str, Any]:
        """How far it is, for people: `Progress`, the error that holds it up, and a `state`: `starting` until it has caught up once.

        While it takes the history, fails or hangs, nobody knows how long events wait: the time since it was last told is added.
        """
        silent_s = time.monotonic() - self._told_at
        lag_s = self._told.get("lag_s", 0.0) + (silent_s if silent_s > 2 * _SAY_S else 0.0)
        return {**self._told, "state": "following" if self._following else "starting", "lag_s": round(lag_s, 1)}

    def _tell(self) -> None:
        """How far it is by log and state, whatever became of the stream; the error stays."""
        now = progress(self._events, self._state)._asdict()
        self._told, self._told_at = {"error": self._told.get("error", ""), **now}, time.monotonic()

    def _say(self, error: str) -> str:
        self._told = {**self._told, "error": error}
        return error

    def _look(self) -> Stream:
        """The stream that goes on from the batch's newest run."""
        found = history.look(self._layout)
        if self._stream is None or self._history is None or found.identity != self._history.identity:
            self._begin(found)
            write_blanks(self._layout)
            self._changes = self._changes or Changes(self._layout.user_changes)
            self._history = found
            self._stream = Stream(
                self._events,
                self._state,
                self._store,
                self._keeper,
                self._catalogue,
                self._changes.bump,
                self._forgotten,
                history=found,
                pushed=self._pushed.add,
                metrics=self._metrics,
                clock=self._clock,
            )
        self._stream.overwritten(self._store.revision())
        return self._stream

    def _begin(self, found: History) -> None:
        """Make the state from a history unless it was; beside the old one, whose place it takes when it is whole."""
        known = self._state.fact("history")
        if known == found.identity:
            return
        if not found.identity:
            raise Unavailable(f"{found.layout.feature_meta}: is gone; events go on from it")
        started = time.monotonic()
        path = self._state.path
        draft = State(path.with_name(f".{path.name}.draft"))
        draft.remove()
        lines = found.lines()
        draft.begin(lines, found.first_shown(), history=found.identity)
        if gone := [user for user in lines.users if user in self._forgotten]:
            draft.forget(gone)
        draft.close()  # what it has written ahead is then in the file
        self._state.remove()
        draft.path.rename(path)
        log.info("history_taken", extra={"complete_before": found.complete_before, "seconds": round(time.monotonic() - started, 3)})

    def _catalogue(self) -> Catalogue | None:
        """What the snapshot says of items, and the store of those it lacks."""
        snapshot = self._keeper.snapshot
        return None if snapshot is None else Catalogue(lambda ids: self._items(snapshot, ids), snapshot.names)

    def _items(self, snapshot: Snapshot, ids: Sequence[str]) -> ItemFeatures:
        features, _, known = snapshot.gather(ids)
        if not known.all():
            absent = np.flatnonzero(~known)
            some = [ids[i] for i in absent.tolist()]
            found, _ = items_of(some, self._store.read(Entity.ITEM, some))
            for name in ("category_keys", "type_keys", "maker_keys", "scalars"):
                getattr(features, name)[absent] = getattr(found, name)
        return features
