"""What killed processes left half written under the state directory: rows of users in files that nobody reads and nobody forgets in.

Knows only what they are called: most names end in the id of the process that writes them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ranking.layout import Layout

_STAGE = re.compile(r"\.[^.]+\.(?:building|retired)\.(\d+)")  # a folder of feature tables or of canonical ones
_FILE = re.compile(r".+[.-](\d+)\.part")  # `TIME-PID.part` of a log, `NAME.PID.part` of what is written anew


def sweep(layout: Layout) -> int:
    """Remove them, those of living processes excepted. Returns how many files and folders went."""
    left = [path for path in _drafts(layout) if not _alive(path)]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left) + _sweep_state(layout)


def _drafts(layout: Layout) -> Iterator[Path]:
    """Whatever has the id of its writer in its name."""
    for folder in (layout.home, layout.home / "data"):
        yield from (path for path in folder.glob(".*") if path.is_dir() and _STAGE.fullmatch(path.name))
    for folder in (layout.features, layout.served, *layout.pushed_rows.glob("*")):
        yield from (path for path in folder.glob("*.part") if _FILE.fullmatch(path.name))


def _sweep_state(layout: Layout) -> int:
    """Remove the feature process' draft unless there is such a process: that one leaves out the forgotten itself.

    It has the snapshot's lock for as long as it lives.
    """
    draft = layout.feature_state.with_name(f".{layout.feature_state.name}.draft")
    files = [path for end in ("", "-wal", "-shm") if (path := draft.with_name(draft.name + end)).exists()]
    if not files:
        return 0
    layout.item_snapshot.parent.mkdir(parents=True, exist_ok=True)
    with layout.item_snapshot.with_name(f"{layout.item_snapshot.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        for path in files:
            path.unlink(missing_ok=True)
    return len(files)


def _alive(draft: Path) -> bool:
    found = _STAGE.fullmatch(draft.name) or _FILE.fullmatch(draft.name)
    assert found
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
