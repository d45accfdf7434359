"""How a release gets its name: one publisher at a time, a draft aside, and a rename once every byte of it is on disk.

Knows no manifest but for the versions that are taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ranking.errors import InvalidRelease, Unavailable
from ranking.release import MANIFEST


@contextmanager
def publication(store: Path) -> Iterator[tuple[Path, int]]:
    """An empty directory to write a release into, and the version of its models, which nobody else is given meanwhile.

    The directory is gone afterwards: `finish` gave it a name, or something failed. What publishers that were killed left is cleared away.

    Args:
        store: the release store, made if absent.

    Raises:
        Unavailable: another publication is under way, or the disk took no more; the store is as it was.
    """
    store.mkdir(parents=True, exist_ok=True)
    handle = os.open(store, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the directory itself; the kernel drops it, however we end
        except BlockingIOError:
            raise Unavailable(f"{store}: another publication is under way; publish again when it has ended") from None
        for rest in store.glob(".publishing-[0-9]*"):
            shutil.rmtree(rest)
        version = next_version(store)
        draft = store / f".publishing-{version:04d}-{os.getpid()}"
        try:
            draft.mkdir()
            yield draft, version
        except OSError as problem:
            where = f" ({problem.filename})" if problem.filename else ""
            raise Unavailable(f"{store}: the release could not be written, nothing was published: {problem.strerror}{where}") from problem
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(handle)


def finish(draft: Path, release: Path) -> None:
    """Make a draft durable, then a release.

    Raises:
        InvalidRelease: there is one of this name, which stays.
    """
    _flush(draft)
    if release.exists():
        raise InvalidRelease("id", f"{release.name} is in the store already and stays")
    draft.rename(release)
    _flush_directory(release.parent)


def next_version(store: Path) -> int:
    """One more than the highest version any release in the store uses."""
    used = [0]
    for manifest in store.glob(f"*/{MANIFEST}"):
        used += [m["version"] for m in json.loads(manifest.read_text())["members"]]
    return max(used) + 1


def _flush(directory: Path) -> None:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _flush_directory(path)
    _flush_directory(directory)


def _flush_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
