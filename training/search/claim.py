"""A name stands for one search, and one driver at a time works under it.

The lock is the operating system's on an open file: whoever holds it is alive, and the kernel lets go of it with the process, however
that ended. So a dead driver's search can be taken up at once, and of two that start together one gets it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.search.journal import Journal, write_durably

ASKED, _LOCK = "asked.json", "lock"


class Taken(RuntimeError):  # noqa: N818 (reads as what happened)
    """Another driver works under this name."""


def check_name(name: str) -> None:
    """A search's name is its folder's.

    Raises:
        ValueError: it cannot be.
    """
    if name in ("", ".", "..") or Path(name).name != name or name != name.strip():
        raise ValueError(f"name: must be a folder's name, got {name!r}")


@contextlib.contextmanager
def claimed(path: Path, asked: Mapping[str, Any]) -> Iterator[Journal]:
    """Work under a name: new, or on from where an earlier driver got.

    Args:
        path: the search's folder; it is made.
        asked: what the search asks, as JSON can say it. Another question under the name would be answered with the old one's winner.

    Raises:
        Taken: another driver is at it.
        ValueError: the folder holds something else, or a search that asked something else; nothing in it is touched.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"name: {path} is a file; choose another name")
    if path.is_dir() and any(path.iterdir()) and not (path / ASKED).exists() and not (path / _LOCK).exists():
        raise ValueError(f"name: {path} is there and holds no search; choose another name")
    path.mkdir(parents=True, exist_ok=True)
    with _held(path):
        _same_question(path, json.loads(json.dumps(asked)))
        yield Journal(path)


def running(path: Path) -> str:
    """Who works under the name: process, machine and since when; empty where nobody does. Only looks: takes no lock, not for a moment."""
    try:
        with (path / _LOCK).open() as file:
            free = _asked_of_kernel(file.fileno(), fcntl.F_OFD_GETLK) == fcntl.F_UNLCK
            return "" if free else _holder(file.read())
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    with (path / _LOCK).open("a+") as file:  # never deleted: two could then hold locks on two files of the name
        try:
            _asked_of_kernel(file.fileno(), fcntl.F_OFD_SETLK)
        except (BlockingIOError, PermissionError):  # which of the two it is depends on the file system
            who = _holder((path / _LOCK).read_text())
            raise Taken(f"name: {path.name!r} is being searched in {path.parent} by {who}; wait for it, or choose another name") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
        file.flush()
        yield


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Work in a trial's folder when nobody else does: a process may outlive its driver by a minute, and another driver have come."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as file:
        _asked_of_kernel(file.fileno(), fcntl.F_OFD_SETLKW)
        yield


def _asked_of_kernel(handle: int, command: int) -> int:
    """Set, or look for what would stand in the way of, a write lock on the whole file; returns the lock's type that comes back."""
    layout = "hhqqi"  # struct flock: type, whence, start, length, process (0: the lock is the open file's, not the process')
    said = fcntl.fcntl(handle, command, struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    return int(struct.unpack_from("h", said)[0])


def _holder(said: str) -> str:
    return said.strip() or "a process that has just started"


def _same_question(path: Path, asked: Mapping[str, Any]) -> None:
    file = path / ASKED
    if file.exists():
        before = json.loads(file.read_text())
        other = [
            f"{key} was {before.get(key)!r} and is {asked.get(key)!r}"
            for key in sorted({*before, *asked})
            if before.get(key) != asked.get(key)
        ]
        if not other:
            return
        if any((path / "trials").glob("*.json")):
            raise ValueError(f"name: {path.name!r} is another search in {path.parent}: {'; '.join(other)}. Choose another name")
    # A search that was stopped before its first trial ended stands for nothing.
    for left in ("reports", "work", "ray", "fits"):
        shutil.rmtree(path / left, ignore_errors=True)
    write_durably(file, json.dumps(asked, indent=1, sort_keys=True) + "\n")
