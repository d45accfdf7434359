"""Whose features changed: counters in one memory-mapped file, bumped by who pushes and compared by who caches, as cheap as memory is.

A user's counter is shared with others (65,536 counters in all), so a change says at most too much, never too little.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranking.features import stable_key

_SLOTS = 1 << 16


class Changes:
    """The counters, for one process that writes them and any number that read them. Safe for any number of threads."""

    def __init__(self, path: Path) -> None:
        """Map the file, made where there is none.

        Raises:
            OSError: it cannot be.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(file, 4 * _SLOTS)  # zeros where it is new; the same for whoever comes first
            self._counts: NDArray[np.uint32] = np.frombuffer(mmap.mmap(file, 4 * _SLOTS), np.uint32)
        finally:
            os.close(file)

    def of(self, user_id: str) -> int:
        """A number that is another one once the user's features changed."""
        return int(self._counts[_slot(user_id)])

    def bump(self, user_id: str) -> None:
        """Say that the user's features changed; after they did."""
        slot = _slot(user_id)
        self._counts[slot] = (int(self._counts[slot]) + 1) & 0xFFFFFFFF


def _slot(user_id: str) -> int:
    return stable_key(user_id) & (_SLOTS - 1)
