"""The port behind feedback: an append-only log of events in which each id stands once. Knows no SQLite and no Redis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ranking.types import Surface
from services.feedback.types import Event, EventType, Outcome

_FIELDS = Event._fields
_TEXTS = ("event_id", "user_id", "item_id", "query", "ranking_id", "order_id")
_REQUIRED = ("event_id", "item_id")
_NUMBERS = ("quantity", "rating")  # all others are whole
_KNOWN: dict[str, list[str | None]] = {"type": [*EventType], "surface": [None, *Surface]}
_MOST, _MOST_WHOLE = 10**12, 2**63 - 1  # more than the door ever let in; what is counted of them stays in 64 bits


class Unreadable(NamedTuple):
    """In an event's place: what stands there is no event that this program knows. It is of a newer one, or of a hand."""

    event_id: str  # as far as it can be read
    reason: str  # naming the field


class Row(NamedTuple):
    """One event as the log has it."""

    offset: int  # from 1, rises with every event; gaps are possible, an offset is never given twice
    event: Event | Unreadable
    recorded_ns: int = 0  # when it was appended, by the clock of whoever appended it, since 1970; 0: not known


class Head(NamedTuple):
    """Which log this is, and how far it ever went."""

    identity: str  # drawn when the log was made: another log has another one, a copy of it the same
    given: int  # no offset beyond it was ever given, to events forgotten since neither; 0: none was


class EventLog(Protocol):
    """Keeps events for any number of processes. Blocks; called from one thread at a time."""

    def append(self, events: Sequence[Event]) -> list[Outcome]:
        """Store what is new, all of it or none; on return it is as durable as the store can make it.

        Args:
            events: in the order they are to stand; an id may come twice.

        Returns:
            (n,) what became of each.

        Raises:
            Unavailable: whether it was done is not known; the same call may be made again.
        """
        ...

    def read(self, after: int, limit: int) -> list[Row]:
        """The events after an offset, oldest append first; fewer than `limit` only at the log's end.

        An event with a lower offset than one that was read never appears later. Times need not rise along the offsets. What cannot be
        read holds up nothing: it is `Unreadable`, and stays where it is.

        Args:
            after: last offset already known; 0: from the beginning.
            limit: most rows, at least 1.

        Raises:
            Unavailable: the store did not answer.
        """
        ...

    def last(self) -> int:
        """The offset of the newest event there is, 0 where there is none: how far a reader has to go.

        Raises:
            Unavailable: the store did not answer.
        """
        ...

    def head(self) -> Head:
        """Which log this is: by it a reader finds that the one it followed was replaced, or that an older copy took its place.

        Raises:
            Unavailable: the store did not answer.
        """
        ...

    def forget(self, users: Sequence[str]) -> int:
        """Remove every event of some users, so that no byte of them is left in the store's files, and refuse those that come later.

        What is kept is a tombstone (`tombstone`). Takes time in proportion to the whole log; appends wait meanwhile.

        Args:
            users: ids.

        Returns:
            How many events were removed.

        Raises:
            Unavailable: not known to be done; the same call may be made again, and has to be.
            ValueError: an id is empty; nothing was done.
        """
        ...

    def close(self) -> None:
        """Let go of the store; a later call opens it again."""
        ...


def decoded(fields: Sequence[Any]) -> Event | Unreadable:
    """The event of its fields as a store gives them back: plain text, numbers and None, in their order; whatever they are, no error."""
    given = fields[0] if fields and isinstance(fields[0], str) else ""
    try:
        if not len(_FIELDS) - 1 <= len(fields) <= len(_FIELDS):  # those written before events had an order lack the last one
            raise ValueError(f"has {len(fields)} fields, this program knows {len(_FIELDS)}")
        for name, value in zip(_FIELDS, fields, strict=False):
            if why := _wrong(name, value):
                raise ValueError(f"{name}: {why}")
        event = Event(*fields)
        return event._replace(type=EventType(event.type), surface=None if event.surface is None else Surface(event.surface))
    except ValueError as wrong:
        return Unreadable(given.encode(errors="backslashreplace").decode(), str(wrong))


def _wrong(name: str, value: Any) -> str:
    """Why a field cannot have this value; empty: it can. What texts say is not told, for some are about users."""
    if name in _KNOWN:
        known = _KNOWN[name]
        return "" if value in known else f"{value!r:.64} is not known here; known: {', '.join(filter(None, known))}"
    if name in _TEXTS:
        if not isinstance(value, str):
            return f"must be text, is {type(value).__name__}"
        if not value and name in _REQUIRED:
            return "must not be empty"
        return "" if value.isascii() or value == value.encode(errors="replace").decode() else "is not UTF-8"
    if value is None and name in Event._field_defaults:
        return ""
    kinds, most = ((int, float), _MOST) if name in _NUMBERS else ((int,), _MOST_WHOLE)
    if isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= most:
        return ""
    return f"must be a {'' if name in _NUMBERS else 'whole '}number from 0 to {most}, is {value!r:.64}"
