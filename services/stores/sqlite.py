"""A SQLite file in WAL mode that several processes share: opened on first use, and again after an error or when it was removed.

Knows no table: the layout comes as SQL with its version.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ranking.errors import Unavailable


class SqliteFile:
    """One file; made with its directory on first use. Blocks; used by one thread at a time, not always the same."""

    def __init__(
        self,
        what: str,
        path: Path,
        schema: str,
        version: int,
        *,
        pragmas: Sequence[str],
        busy_s: float,
        damaged: str,
        upgrades: Mapping[int, str] | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            what: is kept in it; messages begin with this.
            path: the file.
            schema: SQL that makes the tables.
            version: of the schema; a file of another one is refused, unless it can be upgraded.
            pragmas: run on every connection, e.g. ``synchronous = FULL``.
            busy_s: longest to wait for another process's transaction.
            damaged: what to do about a damaged file, as the end of a message.
            upgrades: version -> SQL that makes of a file of that version one of the next.
        """
        self.path = path
        self.busy_s = busy_s
        self._what = what
        self._schema = schema
        self._version = version
        self._pragmas = pragmas
        self._damaged = damaged
        self._upgrades = upgrades or {}
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """The connection, without a transaction; after an error it is closed, which undoes what was begun, and the next call opens anew.

        Raises:
            Unavailable: for whatever SQLite or the file system says.
        """
        try:
            if self._connection is not None and not (self.path.exists() and self.path.stat().st_ino == self._inode):
                self.close()  # the file was removed or replaced
            if self._connection is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Calls come one at a time, but not always from the same thread.
                self._connection = sqlite3.connect(self.path, timeout=self.busy_s, isolation_level=None, check_same_thread=False)
                self._prepare(self._connection)
                self._inode = self.path.stat().st_ino
            yield self._connection
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise Unavailable(f"{self._what}: {self.path}: {self._reason(error)}") from None
            raise

    def rewrite(self, db: sqlite3.Connection) -> None:
        """Write the file anew, so that nothing of removed rows is left in it: pages keep copies of rows that moved on.

        Raises:
            Unavailable: others keep the old file in use; rows are removed, and the call is to be made again.
        """
        db.execute("VACUUM")
        deadline = time.monotonic() + self.busy_s
        while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:  # the old pages go when nobody reads them any more
            if time.monotonic() > deadline:
                raise Unavailable(f"{self._what}: {self.path}: rows are removed, but others keep the old file in use; call again")
            time.sleep(0.01)

    def close(self) -> None:
        """Let go of the file; a later `open` opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _prepare(self, db: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self.busy_s
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:  # of processes that open a new file at once; this statement alone does not wait
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        for pragma in self._pragmas:
            db.execute(f"PRAGMA {pragma}")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version in self._upgrades:
            version = self._upgraded(db)
        if version not in (0, self._version):
            raise Unavailable(f"{self._what}: the SQLite file is of version {version}, this program reads {self._version}")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {self._schema} PRAGMA user_version = {self._version}; COMMIT;")

    def _upgraded(self, db: sqlite3.Connection) -> int:
        """Bring the file's version up; asked again under the write lock, since another process may be at it too."""
        db.execute("BEGIN IMMEDIATE")
        while (version := db.execute("PRAGMA user_version").fetchone()[0]) in self._upgrades:
            for statement in self._upgrades[version].split(";"):  # one by one: `executescript` would commit first
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")
        return int(version)

    def _reason(self, error: sqlite3.Error | OSError) -> str:
        if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            return f"is damaged ({error}); {self._damaged}"
        return str(error)
