"""Feast's SQLite online store as one file under a name: opened without ever making it, and opened anew when another file took its place.

A connection goes on reading a file that was replaced or removed, and finds nothing wrong with it: whoever has one asks before each use
whether it is still the file that has the name. Knows no tables.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal, NamedTuple

from ranking.errors import Unavailable


class Identity(NamedTuple):
    """What tells one file from another, whatever their names."""

    device: int
    inode: int


def identity(path: Path) -> Identity:
    """The file that has this name now.

    Raises:
        Unavailable: there is none, or it cannot be looked at.
    """
    try:
        there = path.stat()
    except FileNotFoundError:
        raise Unavailable(
            f"feature store: online store {path} is gone: put it back, or apply feature_repo and materialise it again"
        ) from None
    except OSError as error:
        raise Unavailable(f"feature store: online store {path}: {error.strerror}") from None
    return Identity(there.st_dev, there.st_ino)


def connect(path: Path, mode: Literal["ro", "rw"], *, timeout_s: float = 5.0) -> sqlite3.Connection:
    """A connection to a file that is there, for one thread at a time; SQLite's own way would make an empty file of one that is not.

    Raises:
        Unavailable: it is gone.
        sqlite3.Error: it cannot be opened.
    """
    identity(path)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=timeout_s, check_same_thread=False)


class OnlineFile:
    """One connection to whatever file has the name. Used by one thread at a time."""

    def __init__(self, path: Path, mode: Literal["ro", "rw"]) -> None:
        """Open it.

        Args:
            path: of the database.
            mode: whether it is only read.

        Raises:
            Unavailable: it is gone.
            sqlite3.Error: it cannot be opened.
        """
        self._path, self._mode = path, mode
        self._db: sqlite3.Connection | None = None
        self._opened: Identity | None = None
        self.connection()

    def connection(self) -> sqlite3.Connection:
        """The connection, to the file that has the name now; a file's look costs a microsecond or two.

        Raises:
            Unavailable: there is none now; the next call looks again.
            sqlite3.Error: it cannot be opened.
        """
        try:
            there = identity(self._path)
        except Unavailable:
            self.close()
            raise
        if self._db is None or there != self._opened:
            self.close()
            # What was looked at comes first: should another file come between, the next call sees that this is not the one.
            self._db, self._opened = connect(self._path, self._mode), there
        return self._db

    def close(self) -> None:
        """Let go of the file; a later call opens it again."""
        if self._db is not None:
            self._db.close()
        self._db, self._opened = None, None
