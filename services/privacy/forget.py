"""Forgetting users everywhere: tombstones first, so that nothing comes back, and then every store in turn.

What failed is told and keeps the others from nothing; the same call may be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ranking.errors import LongtailError, Unavailable
from ranking.features import VIEWS, Entity
from ranking.layout import Layout
from ranking.privacy import user_digest
from services.privacy.forgotten import Forgotten
from services.privacy.parquet import without


class Events(Protocol):
    """Of the event log what forgetting needs; see `services.feedback.log.event_log.EventLog`."""

    def forget(self, users: Sequence[str]) -> int: ...


class Online(Protocol):
    """Of the online feature store what forgetting needs."""

    def forget(self, users: Sequence[str]) -> int:
        """Remove all rows of users, so that no byte of them is left in the store's files. Returns how many rows went.

        Raises:
            Unavailable: not known to be done; the same call may be made again, and has to be.
        """
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one store."""

    store: str
    removed: int  # rows or events
    failed: str = ""  # why it is not done; empty: it is


def forget(layout: Layout, users: Sequence[str], *, events: Events, online: Online) -> list[Done]:
    """Forget users.

    Args:
        layout: the state directory.
        users: ids, at least one.
        events: the event log.
        online: the online feature store.

    Returns:
        What was done to each store; where one failed the call has to be made again.

    Raises:
        ValueError: no users, or an empty id.
        OSError: the tombstones cannot be written; nothing else was done.
    """
    if not users:
        raise ValueError("users: name at least one")
    Forgotten(layout.forgotten).add(users)
    return [
        _done("event log", lambda: events.forget(users)),
        _done("online store", lambda: online.forget(users)),
        _done("served log", lambda: _served(layout, users)),
        _done("feature tables", lambda: _tables(layout, users)),
    ]


def _done(store: str, step: Callable[[], int]) -> Done:
    try:
        return Done(store, step())
    except (LongtailError, ValueError, OSError) as error:
        return Done(store, 0, str(error))


def _served(layout: Layout, users: Sequence[str]) -> int:
    files = sorted(layout.served.glob("*.parquet"))
    if not files:
        return 0
    if not layout.served_key.exists():
        raise Unavailable(f"{layout.served_key}: the key of the served log is gone, so nobody can tell whose rows it holds")
    key = layout.served_key.read_bytes()
    digests = {user_digest(user, key) for user in users}
    return sum(without(path, "user", digests) for path in files)


def _tables(layout: Layout, users: Sequence[str]) -> int:
    """The offline store's user views, from which they would be materialised again, and the purchases that rows are made of."""
    paths = [layout.history, *(layout.features / f"{view.name}.parquet" for view in VIEWS if view.entity is Entity.USER)]
    return sum(without(path, "user_id", set(users)) for path in paths)
