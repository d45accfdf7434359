"""The ledger's store on one machine: a SQLite file in WAL mode, shared by all gateway processes.

A committed batch survives `kill -9`; after a power cut the last few may be missing, each of them whole.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from services.gateway.ledger.store import KINDS, Changes, Entry, Key, Row
from services.stores.sqlite import SqliteFile

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
    kind TEXT, surface TEXT, policy TEXT, attribute TEXT, "group" TEXT,
    state TEXT NOT NULL, updated REAL NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (kind, surface, policy, attribute, "group")
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS account_revision ON account (revision);
CREATE TABLE IF NOT EXISTS replica (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, seen REAL NOT NULL) WITHOUT ROWID;
"""
_READ = 'SELECT state, updated FROM account WHERE kind = ? AND surface = ? AND policy = ? AND attribute = ? AND "group" = ?'
_CHANGED = 'SELECT kind, surface, policy, attribute, "group", state, updated FROM account WHERE revision > ?'
_FORGET_S = 7 * 86_400.0  # a replica silent for so long will not come back with a batch it is unsure of


class SqliteStore:
    """Accounts in one file; made with its directory on first use."""

    def __init__(self, path: Path, *, busy_s: float = 2.0, clock: Callable[[], float] = time.time) -> None:
        """Nothing is opened yet.

        Args:
            path: the file.
            busy_s: longest to wait for another process's transaction.
            clock: seconds since 1970.
        """
        self._file = SqliteFile(
            "ledger",
            path,
            _SCHEMA,
            _VERSION,
            pragmas=["synchronous = NORMAL"],  # what WAL needs for a killed process; a fsync per batch would only serve power cuts
            busy_s=busy_s,
            damaged="move it away, and exposure is counted anew",
        )
        self._clock = clock

    def add(self, replica: str, sequence: int, entries: Sequence[Entry]) -> None:
        """As `LedgerStore.add`."""
        with self._file.open() as db:
            db.execute("BEGIN IMMEDIATE")  # the write lock first: two that read and then write would refuse each other
            known = db.execute("SELECT sequence FROM replica WHERE id = ?", (replica,)).fetchone()
            if known is None or known[0] < sequence:
                now = self._clock()
                revision = _revision(db) + 1
                db.executemany("INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _settled(db, entries, now, revision))
                db.execute("INSERT OR REPLACE INTO replica VALUES (?, ?, ?)", (replica, sequence, now))
                db.execute("DELETE FROM replica WHERE seen < ?", (now - _FORGET_S,))
            db.execute("COMMIT")

    def changes(self, since: int) -> Changes:
        """As `LedgerStore.changes`."""
        with self._file.open() as db:
            db.execute("BEGIN")  # revision and rows of one moment
            revision, found = _revision(db), db.execute(_CHANGED, (since,)).fetchall()
            db.execute("COMMIT")
        now = self._clock()
        return Changes(
            revision,
            {(kind, Key(*key)): Row(KINDS[kind].decode(state), now - updated) for kind, *key, state, updated in found if kind in KINDS},
        )

    def close(self) -> None:
        """As `LedgerStore.close`."""
        self._file.close()


def _revision(db: sqlite3.Connection) -> int:
    """Of the last change, from the index's end; accounts are never deleted, so it never falls."""
    return int(db.execute("SELECT coalesce(max(revision), 0) FROM account").fetchone()[0])


def _settled(db: sqlite3.Connection, entries: Sequence[Entry], now: float, revision: int) -> list[tuple[str | float, ...]]:
    rows: list[tuple[str | float, ...]] = []
    for kind, key, delta, rule in entries:
        found = db.execute(_READ, (kind.name, *key)).fetchone()
        state, updated = (kind.zero, now) if found is None else (kind.decode(found[0]), found[1])
        settled = kind.settle(state, delta, rule, max(now - updated, 0.0))
        rows.append((kind.name, *key, kind.encode(settled), now, revision))
    return rows
