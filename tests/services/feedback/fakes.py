"""Events, and a hand-written event log."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st
from longtail.feedback.v1 import feedback_service_pb2 as pb

from ranking.errors import Unavailable
from ranking.privacy import tombstone
from ranking.types import Surface
from services.feedback.log.event_log import Head, Row
from services.feedback.types import Event, EventType, Outcome

NOON = 1_760_000_000  # seconds since 1970
FULL = Event(
    "e", EventType.PURCHASE, NOON * 10**9 + 1, "u", "i", Surface.ADS, 'Ünï "x":,\n\0', "r" * 32, 3, 0.1 + 0.2, 10**11, None, "ö" * 64
)  # every field that a purchase has


def event(event_id: str, user: str = "u", **fields: object) -> Event:
    """A click."""
    return Event(event_id, EventType.CLICK, NOON * 10**9, user, "i")._replace(**fields)


def message(event_id: str = "e", **fields: object) -> pb.Event:
    """A valid click on the wire."""
    chosen = {"type": pb.EVENT_TYPE_CLICK, "event_time": Timestamp(seconds=NOON), "user_id": "u", "item_id": "i"} | fields
    return pb.Event(event_id=event_id, **chosen)  # type: ignore[arg-type]


TEXTS = st.text('aü\0"\U0001f600', max_size=5)
EVENTS = st.builds(
    Event,
    TEXTS.filter(bool),
    st.sampled_from(EventType),
    st.integers(0, 2**62),
    TEXTS,
    TEXTS.filter(bool),
    st.none() | st.sampled_from(Surface),
    TEXTS,
    TEXTS,
    st.none() | st.integers(1, 10**6),
    st.none() | st.floats(0.0, 1e6),
    st.none() | st.integers(0, 10**12),
    st.none() | st.floats(1.0, 5.0),
    TEXTS,
)


@dataclass
class Place:
    """Where fake logs keep events; calling it gives a log. `down`: calls fail; `hold` cleared: they hang until it is set."""

    rows: dict[str, Row] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    last: int = 0
    identity: str = field(default_factory=lambda: secrets.token_hex(16))
    lock: threading.Lock = field(default_factory=threading.Lock)
    down: bool = False
    hold: threading.Event = field(default_factory=threading.Event)
    appends: list[int] = field(default_factory=list)  # sizes

    def __post_init__(self) -> None:
        self.hold.set()

    def __call__(self) -> FakeLog:
        return FakeLog(self)


@dataclass
class FakeLog:
    """Passes `tests.suites.event_log`."""

    place: Place

    def append(self, events: Sequence[Event]) -> list[Outcome]:
        self.place.appends.append(len(events))
        self.place.hold.wait(30)
        if self.place.down:
            raise Unavailable("event log: it is down")
        with self.place.lock:
            return [self._one(event) for event in events]

    def _one(self, event: Event) -> Outcome:
        if event.user_id in self.place.forgotten:
            return Outcome.FORGOTTEN
        known = self.place.rows.get(event.event_id)
        if known is not None:
            return Outcome.DUPLICATE if known.event == event else Outcome.CONFLICT
        self.place.last += 1
        self.place.rows[event.event_id] = Row(self.place.last, event, time.time_ns())
        return Outcome.STORED

    def read(self, after: int, limit: int) -> list[Row]:
        with self.place.lock:
            return [row for row in self.place.rows.values() if row.offset > after][:limit]

    def last(self) -> int:
        return max((row.offset for row in self.place.rows.values()), default=0)

    def head(self) -> Head:
        return Head(self.place.identity, self.place.last)

    def forget(self, users: Sequence[str]) -> int:
        for user in users:
            tombstone(user)
        with self.place.lock:
            gone = [key for key, row in self.place.rows.items() if row.event.user_id in users]
            for key in gone:
                del self.place.rows[key]
            self.place.forgotten |= set(users)
            return len(gone)

    def close(self) -> None:
        """Nothing is held."""
