"""What can be wrong with a snapshot; each message names the file."""

from __future__ import annotations

from pathlib import Path

from ranking.errors import LongtailError


class InvalidSnapshotError(LongtailError):
    """The file is not a snapshot that can be read here."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class SnapshotTakenError(LongtailError):
    """Another process writes this snapshot."""

    def __init__(self, lock: Path) -> None:
        super().__init__(f"{lock}: another process writes this snapshot; there can be only one")
