"""What the stream remembers: purchase lines by user and item, how far it has read the event log, and which rows are yet to be pushed.

One SQLite file. Events become lines in the same transaction that moves the offset on, so each counts exactly once whoever is killed when;
an entity stays marked until its row was pushed, so a push that was cut short is made again. Knows neither what features are computed of
the lines nor where they go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ranking.features import Entity
from ranking.types import IntArray
from services.features.purchases import Purchase
from services.stores.sqlite import SqliteFile

_VERSION = 1
_SCHEMA = """
CREATE TABLE entity (
    code INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL,
    newest INTEGER NOT NULL DEFAULT 0, -- instant of its latest event; 0: it has history only
    first_shown INTEGER, -- instant an item was first promoted; NULL: never, as far as the batch knows
    stamp INTEGER NOT NULL DEFAULT 0, -- event time of the row pushed last
    due INTEGER, -- offset of the event that made its row old; NULL: it was pushed
    UNIQUE (kind, id)
);
CREATE INDEX due ON entity (kind, due) WHERE due IS NOT NULL;
CREATE TABLE line (
    user INTEGER NOT NULL, item INTEGER NOT NULL, basket INTEGER NOT NULL, bought_at INTEGER NOT NULL, value INTEGER NOT NULL,
    unit_price INTEGER NOT NULL, off_shelf INTEGER NOT NULL, -- as the batch computed them; -1: not known
    paid INTEGER NOT NULL, quantity INTEGER NOT NULL, -- of events, whose unit price is the one by the other
    PRIMARY KEY (user, item, basket)
) WITHOUT ROWID;
CREATE INDEX line_of_item ON line (item);
CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_NOT_KNOWN = -1
_FROM_HISTORY = -1  # a line's `quantity` that says no event made it
_CODE = "INSERT INTO entity (kind, id) VALUES (?, ?) ON CONFLICT DO UPDATE SET id = id RETURNING code"
_NEW_LINE = f"INSERT INTO line VALUES (?, ?, ?, ?, ?, {_NOT_KNOWN}, {_NOT_KNOWN}, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
_MORE_OF_LINE = f"""
UPDATE line SET bought_at = min(bought_at, ?4), value = value + ?5, paid = paid + ?6, quantity = quantity + ?7
WHERE user = ?1 AND item = ?2 AND basket = ?3 AND quantity <> {_FROM_HISTORY}
"""  # noqa: S608
_IN_HISTORY = f"SELECT 1 FROM line WHERE user = ? AND item = ? AND bought_at = ? AND quantity = {_FROM_HISTORY}"  # noqa: S608
_TOUCH = "UPDATE entity SET newest = max(newest, ?), due = coalesce(due, ?) WHERE code = ?"
_LINES = """
SELECT {ids} basket, bought_at, value, unit_price, off_shelf, paid, quantity FROM line {join} WHERE {by} = ? AND bought_at < ?
"""
_OF = {
    Entity.USER: _LINES.format(ids="user, id,", join="JOIN entity ON code = item", by="user"),
    Entity.ITEM: _LINES.format(ids="user, NULL,", join="", by="item"),
}


HistoryLine = tuple[str, str, int, int, int, int, int]
"""User id, item id, basket, bought_at, value, unit_price, off_shelf."""


class Due(NamedTuple):
    """An entity whose row is to be computed anew."""

    code: int
    id: str
    newest: int  # µs since 1970, of its latest event
    stamp: int  # of the row that was pushed last, 0: none was
    first_shown: int | None  # instant an item was first promoted


class Bought(NamedTuple):
    """Purchase lines of one entity, as arrays; see `ranking.behaviour.Lines` for the units."""

    item_ids: Sequence[str]  # (n,) for users; empty for items, where it is the same for each line
    user_code: IntArray
    basket: IntArray
    bought_at: IntArray
    value: IntArray
    unit_price: IntArray
    off_shelf: IntArray


class State:
    """One file. Blocks; used by one thread at a time. Every method may raise `Unavailable`."""

    def __init__(self, path: Path, *, busy_s: float = 5.0) -> None:
        """Nothing is opened yet."""
        self._file = SqliteFile(
            "feature state",
            path,
            _SCHEMA,
            _VERSION,
            pragmas=["synchronous = NORMAL"],  # a power cut may take the last transactions, offset and all: they are read again
            busy_s=busy_s,
            damaged="move it away, and it is made anew from the batch's history and the event log",
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def fact(self, name: str) -> str:
        """Something written down with `note`; empty where it was not."""
        with self._file.open() as db:
            found = db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def note(self, **facts: str) -> None:
        """Write down a few facts."""
        with self._transaction() as db:
            _note(db, facts)

    def offset(self) -> int:
        """Up to where the event log was taken in."""
        return int(self.fact("offset") or 0)

    def take_in(self, purchases: Sequence[Purchase], offset: int, *, complete_before: int, refused: int = 0) -> None:
        """Count purchases and move the offset on, all or nothing.

        Args:
            purchases: of the events up to `offset`; one that is in the history already is not counted again.
            offset: of the last event.
            complete_before: instant before which the history may have a purchase, µs since 1970.
            refused: events among them that could not be counted, added to the fact of that name.
        """
        with self._transaction() as db:
            for one in purchases:
                user, item = (
                    int(db.execute(_CODE, pair).fetchone()[0]) for pair in ((Entity.USER, one.user_id), (Entity.ITEM, one.item_id))
                )
                if one.bought_at < complete_before and db.execute(_IN_HISTORY, (user, item, one.bought_at)).fetchone():
                    continue
                values = (user, item, one.basket, one.bought_at, one.value, one.paid, one.quantity)
                if db.execute(_NEW_LINE, values).rowcount or db.execute(_MORE_OF_LINE, values).rowcount:
                    touched = (user, item) if one.user_id else (item,)
                    db.executemany(_TOUCH, [(one.bought_at, offset, code) for code in touched])
            facts = {"offset": str(offset)}
            if refused:
                known = db.execute("SELECT value FROM fact WHERE name = 'refused'").fetchone()
                facts["refused"] = str(refused + (int(known[0]) if known else 0))
            _note(db, facts)

    def due(self, kind: Entity, limit: int) -> list[Due]:
        """Entities whose row is to be pushed, those first that have waited longest."""
        with self._file.open() as db:
            query = "SELECT code, id, newest, stamp, first_shown FROM entity WHERE kind = ? AND due IS NOT NULL ORDER BY due LIMIT ?"
            return [Due(*row) for row in db.execute(query, (kind, limit))]

    def due_count(self) -> int:
        """How many entities wait for a push."""
        with self._file.open() as db:
            return int(db.execute("SELECT count(*) FROM entity WHERE due IS NOT NULL").fetchone()[0])

    def all_due(self, **facts: str) -> None:
        """Mark every entity that had an event, since whatever was pushed of it may have been overwritten; notes facts with it."""
        with self._transaction() as db:
            db.execute("UPDATE entity SET due = coalesce(due, 0) WHERE newest > 0 AND id <> ''")
            _note(db, facts)

    def pushed(self, stamps: Mapping[int, int]) -> None:
        """Rows of these codes were pushed, with these event times."""
        with self._transaction() as db:
            db.executemany("UPDATE entity SET due = NULL, stamp = ? WHERE code = ?", [(stamp, code) for code, stamp in stamps.items()])

    def bought(self, kind: Entity, code: int, before: int) -> Bought:
        """An entity's purchase lines before an instant, in no order."""
        with self._file.open() as db:
            rows = db.execute(_OF[kind], (code, before)).fetchall()
        users, ids, *numbers = zip(*rows, strict=True) if rows else ((),) * 9
        user, basket, bought_at, value, unit_price, off_shelf, paid, quantity = (np.array(c, np.int64) for c in (users, *numbers))
        told = paid > 0
        unit_price[told] = np.floor(paid[told] / quantity[told] * 1e6 + 0.5).astype(np.int64)
        return Bought(ids if kind is Entity.USER else (), user, basket, bought_at, value, unit_price, off_shelf)

    def code(self, kind: Entity, key: str) -> int:
        """The number of an entity; 0: nothing is known of it."""
        with self._file.open() as db:
            found = db.execute("SELECT code FROM entity WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        return int(found[0]) if found else 0

    def purchases(self, before: int) -> dict[int, int]:
        """Item code -> purchase lines before an instant, of every item that has one."""
        with self._file.open() as db:
            return dict(db.execute("SELECT item, count(*) FROM line WHERE bought_at < ? GROUP BY item", (before,)))

    def begin(self, lines: Iterable[HistoryLine], first_shown: Mapping[str, int], **facts: str) -> None:
        """Fill a new file; notes facts with it.

        Args:
            lines: of the batch's history.
            first_shown: item id -> instant it was first promoted.
            facts: names and values.
        """
        codes: dict[tuple[Entity, str], int] = {}

        def code(kind: Entity, key: str) -> int:
            return codes.setdefault((kind, key), len(codes) + 1)

        with self._transaction() as db:
            db.executemany(
                f"INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?, ?, ?, 0, {_FROM_HISTORY})",  # noqa: S608
                ((code(Entity.USER, user), code(Entity.ITEM, item), *numbers) for user, item, *numbers in lines),
            )
            for item in first_shown:
                code(Entity.ITEM, item)
            db.executemany(
                "INSERT INTO entity (code, kind, id, first_shown) VALUES (?, ?, ?, ?)",
                ((number, kind, key, first_shown.get(key) if kind is Entity.ITEM else None) for (kind, key), number in codes.items()),
            )
            _note(db, facts)

    def forget(self, users: Sequence[str]) -> int:
        """Remove users and their lines, so that no byte of them is left in the file. Returns how many lines went; 0 without a file."""
        if not self.path.exists():
            return 0
        removed = 0
        with self._file.open() as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("BEGIN IMMEDIATE")
            for user in users:
                theirs = db.execute("DELETE FROM entity WHERE kind = ? AND id = ? RETURNING code", (Entity.USER, user)).fetchall()
                removed += db.executemany("DELETE FROM line WHERE user = ?", theirs).rowcount if theirs else 0
            db.execute("COMMIT")
            self._file.rewrite(db)
        return removed

    def close(self) -> None:
        """Let go of the file; a later call opens it again."""
        self._file.close()

    def remove(self) -> None:
        """Close and remove it: the file first, for what was written ahead of it must not meet another file of its name."""
        self.close()
        for end in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._file.open() as db:  # whatever fails within closes the connection, which undoes what was begun
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")


def _note(db: sqlite3.Connection, facts: Mapping[str, str]) -> None:
    db.executemany("INSERT INTO fact VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", list(facts.items()))
