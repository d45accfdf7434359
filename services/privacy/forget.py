"""Forgetting users everywhere: tombstones first, so that nothing comes back, and then every store in turn.

What failed is told and keeps the others from nothing; the same call may be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ranking.errors import LongtailError, Unavailable
from ranking.features import ALL_VIEWS, VIEWS, Entity
from ranking.layout import Layout
from ranking.privacy import user_digest
from services.feature_store.changes import Changes
from services.privacy.drafts import sweep
from services.privacy.forgotten import Forgotten
from services.privacy.parquet import without


class Store(Protocol):
    """A store that knows users."""

    def forget(self, users: Sequence[str]) -> int:
        """Remove all there is of users, so that no byte of them is left in the store's files. Returns how many rows or events went.

        Raises:
            Unavailable: not known to be done; the same call may be made again, and has to be.
        """
        ...


Stores = Mapping[str, Store]
"""By name, in the order they are to forget: what others are filled from first."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one store."""

    store: str
    removed: int  # rows or events; of the drafts files and folders
    failed: str = ""  # why it is not done; empty: it is


def forget(layout: Layout, users: Sequence[str], stores: Stores, *, told: Callable[[str], None] = lambda _: None) -> list[Done]:
    """Forget users.

    Args:
        layout: the state directory.
        users: ids, at least one.
        stores: that several processes share; the files under `layout` come after them.
        told: hears the name of each store before its turn.

    Returns:
        What was done to each store; where one failed the call has to be made again.

    Raises:
        ValueError: no users, or an empty id.
        OSError: the tombstones cannot be written; nothing else was done.
    """
    if not users:
        raise ValueError("users: name at least one")
    Forgotten(layout.forgotten).add(users)
    steps = {name: partial(store.forget, users) for name, store in stores.items()}
    steps |= {"served log": partial(_served, layout, users), "pushed rows": partial(_pushed, layout, users)}
    steps |= {"feature tables": partial(_tables, layout, users), "drafts": partial(sweep, layout)}
    done = []
    for name, step in steps.items():
        told(name)
        done.append(_done(name, step))
    changes = Changes(layout.user_changes)
    for user in users:
        changes.bump(user)  # gateways have read them not long ago
    return done


def prepared(layout: Layout, users: Sequence[str]) -> list[Path]:
    """Canonical tables that have rows of users: made from somebody's own files, they are that somebody's to change.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is none of Parquet's.
    """
    wanted = ds.field("user_id").isin(pa.array(sorted(set(users)), pa.string()))
    tables = [path for path in sorted(layout.canonical("any").parent.glob("*/*.parquet")) if "user_id" in pq.read_schema(path).names]
    return [path for path in tables if ds.dataset(path).count_rows(filter=wanted)]


def forget_again(store: Store, known: Iterable[str], forgotten: Forgotten) -> int:
    """Remove from a store whom others brought back that know no tombstones. Returns how many rows went.

    Args:
        store: it.
        known: ids of the users it may hold.
        forgotten: whom it must not.

    Raises:
        Unavailable: as `Store.forget`.
    """
    users = [user for user in known if user in forgotten]
    return store.forget(users) if users else 0


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
    return sum(without(path, "user", digests, empty=False) for path in files)


def _pushed(layout: Layout, users: Sequence[str]) -> int:
    """Rows made of events, as they were pushed."""
    folders = [layout.pushed_rows / view.name for view in ALL_VIEWS if view.entity is Entity.USER]
    return sum(without(path, "user_id", set(users), empty=False) for folder in folders for path in sorted(folder.glob("*.parquet")))


def _tables(layout: Layout, users: Sequence[str]) -> int:
    """The offline store's user views, from which they would be materialised again, and the purchases that rows are made of."""
    paths = [layout.history, *(layout.features / f"{view.name}.parquet" for view in VIEWS if view.entity is Entity.USER)]
    return sum(without(path, "user_id", set(users)) for path in paths)
