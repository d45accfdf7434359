"""The snapshot that stands under a name now: opens each new file, and keeps the one it has while a new one is no good."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.layout import ITEMS, PAGE, Format
from services.snapshot.snapshot import Snapshot

log = logging.getLogger(__name__)


class Latest:
    """Follows one path. `current` is one attribute read, with no system call; `poll` looks at the file."""

    def __init__(self, path: Path, form: Format = ITEMS, *, clock: Callable[[], float] = time.time) -> None:
        """Nothing is opened before `poll`.

        Args:
            path: where snapshots are published.
            form: what an item consists of.
            clock: seconds since 1970.
        """
        self._path, self._form, self._clock = path, form, clock
        self._seen: tuple[int, int, int, bytes] | None = None  # what was last opened, or refused
        self.current: Snapshot | None = None
        self.refused = 0  # files that were no good

    @property
    def age_s(self) -> float:
        """How long ago the feature store had what `current` says; infinite where there is none."""
        return max(self._clock() - self.current.as_of, 0.0) if self.current else float("inf")

    def poll(self) -> None:
        """Open the file if it is another than last time. Reads all of a new one: not on an event loop."""
        seen = self._look()
        if seen is None or seen == self._seen:
            return
        self._seen = seen
        try:
            self.current = snapshot = Snapshot.open(self._path, self._form)
        except InvalidSnapshotError as error:
            self.refused += 1
            log.error("snapshot_refused", extra={"detail": str(error), "generation": self.current and self.current.header.generation})
        else:
            header = snapshot.header
            log.info("snapshot_active", extra={"path": str(self._path), "generation": header.generation, "items": len(snapshot)})

    def _look(self) -> tuple[int, int, int, bytes] | None:
        """What tells one file from another, also where a number is given anew; rows updated in place make no other file."""
        try:
            with self._path.open("rb") as file:
                header = file.read(PAGE)
            there = self._path.stat()
        except OSError:
            return None
        return there.st_ino, there.st_size, 0 if header[:5] == b"LTITE" else there.st_mtime_ns, header
