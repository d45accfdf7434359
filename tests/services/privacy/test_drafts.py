"""What killed processes left goes with the first user who is forgotten; what living ones write stays."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ranking.layout import Layout
from services.privacy.drafts import sweep
from services.privacy.forget import Done, forget


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _left(layout: Layout, pid: int) -> list[Path]:
    """Drafts of all kinds that name a process."""
    folders = [layout.home / f".features.{kind}.{pid}" for kind in ("building", "retired")]
    folders.append(layout.home / "data" / f".shop.building.{pid}")
    pushed = layout.pushed_rows / "user_session"
    files = [layout.features / f"history.parquet.{pid}.part", layout.served / f"0001-{pid}.part", pushed / f"0001-{pid}.part"]
    files.append(layout.served / f"0001-7.parquet.{pid}.part")
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "history.parquet").write_text("ann")
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("ann")
    return [*folders, *files]


def test_only_what_the_dead_left_goes(tmp_path: Path, dead: int) -> None:
    """Every kind of draft of an ended process goes; the same of a living one stays, and so does what is no draft."""
    layout = Layout(tmp_path)
    gone, stays = _left(layout, dead), _left(layout, os.getpid())
    others = [
        layout.features / "history.parquet",
        layout.served / f"0002-{dead}.parquet",
        layout.home / ".features.building",
        layout.events,
    ]
    for path in others:
        path.write_text("bob")
    assert sweep(layout) == len(gone)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (*stays, *others))
    assert sweep(layout) == 0


def test_the_state_of_a_feature_process_that_was_killed_goes(tmp_path: Path) -> None:
    """Its draft has no name of a process: it goes unless somebody holds the lock that the process has while it lives."""
    layout = Layout(tmp_path)
    drafts = [tmp_path / f".feature_state.db.draft{end}" for end in ("", "-wal", "-shm")]
    for path in drafts:
        path.write_text("ann")
    layout.item_snapshot.parent.mkdir(parents=True)
    with layout.item_snapshot.with_name("items.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert forget(layout, ["ann"], {})[-1] == Done("drafts", 0)
        assert all(path.exists() for path in drafts)
    assert forget(layout, ["ann"], {})[-1] == Done("drafts", 3)
    assert not any(path.exists() for path in drafts)


def test_an_empty_home_has_none(tmp_path: Path) -> None:
    """Nor is anything made."""
    assert sweep(Layout(tmp_path / "home")) == 0
    assert list(tmp_path.iterdir()) == []
