"""The score table's file, mapped by every gateway process of a machine: it outlives them all, and is made anew where it does not fit.

Its blocks are reserved when it is made: a write to mapped memory that finds the disk full would end the process. A process that cannot
have the file has a table of its own.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
from pathlib import Path

import numpy as np

from services.gateway.scores.table import ENTRY_BYTES, WAYS, WORDS, ScoreTable, sets

log = logging.getLogger(__name__)
_PAGE = 4096
_MAGIC = b"LTSCORES"
_FORMAT = 1
_HEADER = struct.Struct("=8sIIQ")  # magic, format, ways, sets, in the byte order of this machine, as are the words


def opened(path: Path, capacity: int) -> ScoreTable:
    """The table of all processes, with what it holds; one of this process alone where there cannot be a file, which is logged.

    Args:
        path: the file; made, or replaced if it is of another format or capacity, or was cut short.
        capacity: scores it has room for, 24 bytes each.
    """
    try:
        return ScoreTable(_mapped(path, sets(capacity)))
    except OSError as error:
        log.error("score_cache_not_shared", extra={"path": str(path), "detail": str(error)})
        return ScoreTable.private(capacity)


def _mapped(path: Path, rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    header, size = _HEADER.pack(_MAGIC, _FORMAT, WAYS, rows), _PAGE + rows * WAYS * ENTRY_BYTES
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of processes that start at once one makes it
        if not _fits(path, header, size):
            _make(path, header, size)
        with path.open("r+b") as file:
            whole = mmap.mmap(file.fileno(), size)  # released with the last array on it
    return np.frombuffer(whole, np.uint64, offset=_PAGE).reshape(WORDS, rows, WAYS)


def _fits(path: Path, header: bytes, size: int) -> bool:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == size and file.read(len(header)) == header
    except FileNotFoundError:
        return False


def _make(path: Path, header: bytes, size: int) -> None:
    """Beside and renamed: processes that have the old one mapped go on with it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            file.write(header)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    log.info("score_cache_made", extra={"path": str(path), "bytes": size})
