"""The snapshot that stands under a name now: opens each new file, and keeps the one it has while a new one is no good.

One that is overwritten or truncated where it is mapped is let go as soon as that is seen: there is none until a good file comes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.layout import ITEMS, PAGE, Format
from services.snapshot.snapshot import Snapshot

AHEAD_S = 60.0  # so far a snapshot's time may be ahead of the clock, which is set back by a little now and then
RECHECK_S = 60.0  # reading all of a million items takes a quarter of a second
_Seen = tuple[int, int, int, bytes]
log = logging.getLogger(__name__)


class Latest:
    """Follows one path. `current` is one attribute read, with no system call; `poll` looks at the file."""

    def __init__(self, path: Path, form: Format = ITEMS, *, recheck_s: float = RECHECK_S, clock: Callable[[], float] = time.time) -> None:
        """Nothing is opened before `poll`.

        Args:
            path: where snapshots are published.
            form: what an item consists of.
            recheck_s: least time between two readings of all of a file that is written to, in seconds.
            clock: seconds since 1970.
        """
        self._path, self._form, self._recheck_s, self._clock = path, form, recheck_s, clock
        self._seen: _Seen | None = None  # what was last opened, or refused
        self._inode = 0  # of `current`
        self._read = (0, 0.0)  # when the file was last written to as all of it was last read, and when that was, in monotonic seconds
        self.current: Snapshot | None = None
        self.problem = ""  # why there is no `current` although there is a file
        self.refused = 0  # files that were no good

    @property
    def age_s(self) -> float:
        """How long ago the feature store had what `current` says; infinite where there is none, or what it says is of a time to come."""
        now = self.current
        age = self._clock() - now.as_of if now is not None else float("inf")
        return max(age, 0.0) if age >= -AHEAD_S else float("inf")

    def poll(self) -> None:
        """Open the file if it is another than last time, and let go of one that was damaged where it is mapped.

        Reads all of a new one, and again, now and then, of one that was written to: not on an event loop.
        """
        seen, written = self._look()
        if seen is not None and (seen != self._seen or self._due(written)):
            self._open(seen, written)
        if self.current is not None:
            try:
                self.current.check(self._path)
            except InvalidSnapshotError as error:
                self._refuse(error, drop=True)

    def _open(self, seen: _Seen, written: int) -> None:
        """Open what stands there. A file that no longer is what it was, and is mapped, is let go first."""
        same = self.current is not None and seen[0] == self._inode
        if same and seen != self._seen:
            self.current = None
        self._seen, self._read = seen, (written, time.monotonic())
        try:
            snapshot = Snapshot.open(self._path, self._form)
        except InvalidSnapshotError as error:
            self._refuse(error, drop=same)
            return
        if self.current is None or not same:  # else it was only read again
            self.current, self._inode, self.problem = snapshot, seen[0], ""
            header = snapshot.header
            log.info("snapshot_active", extra={"path": str(self._path), "generation": header.generation, "items": len(snapshot)})

    def _refuse(self, error: InvalidSnapshotError, *, drop: bool) -> None:
        held = self.current
        if drop:
            self.current = None
        if self.current is None:
            self.problem = error.reason
        self.refused += 1
        log.error("snapshot_refused", extra={"detail": str(error), "generation": None if held is None else held.header.generation})

    def _due(self, written: int) -> bool:
        return self.current is not None and written != self._read[0] and time.monotonic() - self._read[1] >= self._recheck_s

    def _look(self) -> tuple[_Seen | None, int]:
        """What tells one file from another, also where a number is given anew, and when it was written to, which makes no other file."""
        try:
            with self._path.open("rb") as file:
                header = file.read(PAGE)
            there = self._path.stat()
        except OSError:
            return None, 0
        written = there.st_mtime_ns
        return (there.st_ino, there.st_size, 0 if header[:5] == b"LTITE" else written, header), written
