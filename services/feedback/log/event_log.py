"""The port behind feedback: an append-only log of events in which each id stands once. Knows no SQLite and no Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ranking.errors import Unavailable
from ranking.types import Surface
from services.feedback.types import Event, EventType, Outcome


class Row(NamedTuple):
    """One event as the log has it."""

    offset: int  # from 1, rises with every event; gaps are possible, an offset is never given twice
    event: Event
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

        An event with a lower offset than one that was read never appears later. Times need not rise along the offsets.

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


def decoded(fields: Sequence[Any]) -> Event:
    """The event of its fields as a store gives them back: plain text, numbers and None, in their order.

    Raises:
        Unavailable: they are no event this program knows.
    """
    try:
        event = Event(*fields)  # those written before events had an order lack the last one
        return event._replace(type=EventType(event.type), surface=None if event.surface is None else Surface(event.surface))
    except (TypeError, ValueError) as wrong:
        raise Unavailable(f"event log: holds an event that cannot be read: {wrong}") from None
