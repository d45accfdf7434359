"""The event log on one machine: a SQLite file in WAL mode, shared by all processes.

An append is one transaction, on the disk when it returns (`synchronous = FULL`): what was acknowledged survives `kill -9` and power
cuts.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from ranking.privacy import tombstone
from services.feedback.log.event_log import Head, Row, decoded
from services.feedback.types import Event, Outcome
from services.stores.sqlite import SqliteFile

_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    "offset" INTEGER PRIMARY KEY AUTOINCREMENT, -- without it the last offset would be given again once its event is forgotten
    event_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, event_time_ns INTEGER NOT NULL, user_id TEXT NOT NULL, item_id TEXT NOT NULL,
    surface TEXT, query TEXT NOT NULL, ranking_id TEXT NOT NULL, position INTEGER, quantity REAL, value_micros INTEGER, rating REAL,
    order_id TEXT NOT NULL,
    recorded_ns INTEGER NOT NULL -- when it was appended; 0: not known
);
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL); -- one row, drawn when the file is made
INSERT INTO identity SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM identity);
CREATE TABLE IF NOT EXISTS forgotten (user BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_UPGRADES = {
    1: "ALTER TABLE event ADD COLUMN order_id TEXT NOT NULL DEFAULT '';",
    2: """
        ALTER TABLE event ADD COLUMN recorded_ns INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE identity (id TEXT NOT NULL);
        INSERT INTO identity VALUES (lower(hex(randomblob(16))));
        """,
}
_COLUMNS = ", ".join(Event._fields)
_ROWS = 100  # of one statement
_READ = f'SELECT "offset", recorded_ns, {_COLUMNS} FROM event WHERE "offset" > ? ORDER BY "offset" LIMIT ?'  # noqa: S608


class SqliteLog:
    """Events in one file; made with its directory on first use."""

    def __init__(self, path: Path, *, busy_s: float = 2.0) -> None:
        """Nothing is opened yet.

        Args:
            path: the file.
            busy_s: longest to wait for another process's transaction.
        """
        self._file = SqliteFile(
            "event log",
            path,
            _SCHEMA,
            _VERSION,
            pragmas=["synchronous = FULL", "secure_delete = ON"],  # the second: so that a `forget` that was cut short leaves little
            busy_s=busy_s,
            upgrades=_UPGRADES,
            damaged="restore it from a backup, or move it away: a new one is made, and followed from its beginning",
        )

    def append(self, events: Sequence[Event]) -> list[Outcome]:
        """As `EventLog.append`."""
        with self._file.open() as db:
            db.execute("BEGIN IMMEDIATE")  # the write lock first: two that read and then write would refuse each other
            forgotten = _forgotten(db, events)
            kept = [event for event in events if event.user_id not in forgotten]
            # Rows in one statement, since for every statement Python gives up its lock and waits to have it back from the event loop.
            outcomes = iter([outcome for at in range(0, len(kept), _ROWS) for outcome in _inserted(db, kept[at : at + _ROWS])])
            db.execute("COMMIT")
        return [Outcome.FORGOTTEN if event.user_id in forgotten else next(outcomes) for event in events]

    def read(self, after: int, limit: int) -> list[Row]:
        """As `EventLog.read`."""
        with self._file.open() as db:
            db.text_factory = _text
            found = db.execute(_READ, (after, limit)).fetchall()
            db.text_factory = str
        return [Row(offset, decoded(fields), at if isinstance(at, int) else 0) for offset, at, *fields in found]

    def last(self) -> int:
        """As `EventLog.last`."""
        with self._file.open() as db:
            return int(db.execute('SELECT coalesce(max("offset"), 0) FROM event').fetchone()[0])

    def head(self) -> Head:
        """As `EventLog.head`."""
        with self._file.open() as db:
            given = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)"
            return Head(*db.execute(f"SELECT id, ({given}) FROM identity").fetchone())  # noqa: S608 - text of our own

    def forget(self, users: Sequence[str]) -> int:
        """As `EventLog.forget`."""
        with self._file.open() as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT OR IGNORE INTO forgotten VALUES (?)", [(tombstone(user),) for user in users])
            removed = db.executemany("DELETE FROM event WHERE user_id = ?", [(user,) for user in users]).rowcount
            db.execute("COMMIT")
            self._file.rewrite(db)
        return int(removed)

    def close(self) -> None:
        """As `EventLog.close`."""
        self._file.close()


def _text(stored: bytes) -> str:
    """As it is, or as no text can be: SQLite does not ask whether it is UTF-8, and Python's own way fails the whole page."""
    return stored.decode(errors="surrogateescape")


def _inserted(db: sqlite3.Connection, events: Sequence[Event]) -> Iterator[Outcome]:
    """Insert those whose id is new; of an id that comes twice the first."""
    insert, known = _statements(len(events))
    now = time.time_ns()
    new = {event_id for (event_id,) in db.execute(insert, [value for event in events for value in (*event, now)])}
    there: dict[str, tuple[object, ...]] = {}
    if len(new) < len(events):
        there = {row[0]: row for row in db.execute(known, [event.event_id for event in events])}
    for event in events:
        if event.event_id in new:
            new.remove(event.event_id)
            yield Outcome.STORED
        else:
            yield Outcome.DUPLICATE if there[event.event_id] == event else Outcome.CONFLICT


@cache
def _statements(n: int) -> tuple[str, str]:
    """SQL that inserts `n` events and returns the ids of those that were new; that selects the events of `n` ids."""
    row = f"({', '.join('?' * (len(Event._fields) + 1))})"
    insert = (
        f"INSERT INTO event ({_COLUMNS}, recorded_ns) VALUES {', '.join([row] * n)} ON CONFLICT (event_id) DO NOTHING RETURNING event_id"  # noqa: S608
    )
    return insert, f"SELECT {_COLUMNS} FROM event WHERE event_id IN ({', '.join('?' * n)})"  # noqa: S608 - names of our own


def _forgotten(db: sqlite3.Connection, events: Sequence[Event]) -> set[str]:
    """The forgotten users among those of the events."""
    if db.execute("SELECT 1 FROM forgotten LIMIT 1").fetchone() is None:
        return set()
    users = {tombstone(user): user for user in {event.user_id for event in events} - {""}}
    marks = ", ".join("?" * len(users))
    return {users[row[0]] for row in db.execute(f"SELECT user FROM forgotten WHERE user IN ({marks})", list(users))}  # noqa: S608
