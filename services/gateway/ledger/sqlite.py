"""The ledger's store on one machine: a SQLite file in WAL mode, shared by all gateway processes.

A committed batch survives `kill -9`; after a power cut the last few may be missing, each of them whole.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ranking.errors import Unavailable
from services.gateway.ledger.store import KINDS, Changes, Entry, Key, Row

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
        self._path = path
        self._busy_s = busy_s
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def add(self, replica: str, sequence: int, entries: Sequence[Entry]) -> None:
        """As `LedgerStore.add`."""
        with self._open() as db:
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
        with self._open() as db:
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
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The connection; after an error it is closed, which undoes what was begun, and the next call opens a new one."""
        try:
            if self._connection is not None and not (self._path.exists() and self._path.stat().st_ino == self._inode):
                self.close()  # the file was removed or replaced
            if self._connection is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Calls come one at a time, but not always from the same thread.
                self._connection = sqlite3.connect(self._path, timeout=self._busy_s, isolation_level=None, check_same_thread=False)
                _prepare(self._connection, self._busy_s)
                self._inode = self._path.stat().st_ino
            yield self._connection
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise Unavailable(f"ledger: {self._path}: {_reason(error)}") from None
            raise


def _prepare(db: sqlite3.Connection, busy_s: float) -> None:
    deadline = time.monotonic() + busy_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:  # of processes that open a new file at once; this statement alone does not wait
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    db.execute("PRAGMA synchronous = NORMAL")  # what WAL needs for a killed process; a fsync per batch would only serve power cuts
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise Unavailable(f"ledger: the SQLite file is of version {version}, this gateway reads {_VERSION}")
    if version == 0:
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")


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


def _reason(error: sqlite3.Error | OSError) -> str:
    if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        return f"is damaged ({error}); move it away, and exposure is counted anew"
    return str(error)
