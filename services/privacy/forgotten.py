"""The users this machine's processes must not know again: a file of tombstones, one line each, that only grows.

What a tombstone tells and to whom says `ranking.privacy.tombstone`. Processes read the file again when it changed; the batch reads it too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from ranking.privacy import TOMBSTONE_DIGITS, tombstone, tombstones

_LINE = TOMBSTONE_DIGITS + 1  # and the end of the line


class Forgotten:
    """The file. Safe for any number of processes and threads; not being there it forgets nobody."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path
        self._size = 0
        self._known: frozenset[str] = frozenset()

    def __contains__(self, user: object) -> bool:
        """Whether the user was forgotten; nobody (the empty id) never is. One `stat` where the file did not change.

        Raises:
            OSError: the file is there and cannot be read.
        """
        known = self._read()
        return bool(known) and isinstance(user, str) and bool(user) and tombstone(user).hex() in known

    def __len__(self) -> int:
        """How many were forgotten."""
        return len(self._read())

    def add(self, users: Iterable[str]) -> None:
        """Remember users; on the disk when it returns.

        Raises:
            ValueError: an id is empty; nothing was written.
            OSError: the file cannot be written.
        """
        marks = dict.fromkeys(tombstone(user).hex() for user in users)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(os.fstat(file.fileno()).st_size // _LINE * _LINE)  # a line cut short by a crash is written again by its caller
            file.write("".join(f"{mark}\n" for mark in marks if mark not in self._read()).encode())
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> frozenset[str]:
        try:
            size = self._path.stat().st_size // _LINE * _LINE
        except FileNotFoundError:
            size = 0
        if size != self._size:
            with self._path.open("rb") as file:
                self._known, self._size = tombstones(file.read(size).decode()), size
        return self._known
