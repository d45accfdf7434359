"""One process writes, others read, and any of them may be killed: no reader ever gets half of anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from services.snapshot.errors import SnapshotTakenError
from services.snapshot.files import drafts
from services.snapshot.latest import Latest
from services.snapshot.snapshot import Snapshot
from services.snapshot.writer import Writer
from tests.services.snapshot.catalogue import at, marked, marks
from tests.services.snapshot.snapshot_writer import IDS

ROOT = Path(__file__).parents[3]


@contextmanager
def writing(path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes, until the context ends; then it is killed wherever it is."""
    command = [sys.executable, "-m", "tests.services.snapshot.snapshot_writer", str(path), mode]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos" / "gen")])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_row_is_never_mixed_while_it_is_written(tmp_path: Path) -> None:
    """While another process overwrites the rows as fast as it can, every row read is one it wrote whole; few count as unknown."""
    path = tmp_path / "items"
    seen: set[float] = set()
    gathers = unknown = 0
    with writing(path, "put") as process:
        latest = Latest(path)
        while len(seen) < 30 or gathers < 1000:
            latest.poll()  # it also makes the file anew, when that is full
            assert latest.current is not None
            items, _, known = latest.current.gather(IDS)
            gathers, unknown = gathers + 1, unknown + int((~known).sum())
            for numbers in (numbers for numbers, there in zip(marks(items), known, strict=True) if there):
                assert len(numbers) == 1
                seen |= numbers
        assert process.poll() is None
    assert unknown < gathers


def test_a_file_is_replaced_under_its_readers(tmp_path: Path) -> None:
    """While another process replaces the file without end, every list read is of one file, and no file older than one before."""
    path, seen = tmp_path / "items", [-1.0]
    with writing(path, "build") as process:
        latest = Latest(path)
        while len(seen) < 20:
            latest.poll()
            assert latest.current is not None
            items, times, known = latest.current.gather(IDS)
            assert known.all()
            assert len(set().union(*marks(items))) == 1
            (time,) = set(times.ravel().tolist())
            assert time >= seen[-1]
            if time > seen[-1]:
                seen.append(time)
        assert process.poll() is None
    assert latest.refused == 0


@pytest.mark.parametrize("mode", ["put", "build"])
def test_a_killed_writer_leaves_a_file_that_can_be_read(tmp_path: Path, mode: str) -> None:
    """Killed again and again wherever it is, the file opens, its rows are whole or unknown, and the next writer goes on with it."""
    path, rng = tmp_path / "items", np.random.default_rng(0)
    for _ in range(4):
        with writing(path, mode) as process, pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.random() * 0.3)
        items, _, known = Snapshot.open(path).gather(IDS)
        assert known.sum() >= len(IDS) - 1  # one row at most was being written
        assert all(len(numbers) == 1 for numbers, there in zip(marks(items), known, strict=True) if there)
    with Writer(path):
        assert list(path.parent.glob(f"{drafts(path)}*")) == []  # what was not finished is gone


def test_a_row_left_half_written_is_not_served(tmp_path: Path) -> None:
    """It is unknown, until a writer comes that leaves it out or writes it again; its neighbours are read throughout."""
    path = tmp_path / "items"
    with writing(path, "torn") as process:
        process.wait()
    reader = Snapshot.open(path)
    assert reader.gather(IDS)[2].tolist() == [False] + [True] * (len(IDS) - 1)
    with Writer(path) as writer:
        assert Snapshot.open(path).gather(IDS)[2].tolist() == [False] + [True] * (len(IDS) - 1)
        writer.put(IDS[:1], marked(IDS[:1], 7), at(1.0, 1), {})  # older than what it was about to write, which is no more
        items, times, known = Snapshot.open(path).gather(IDS)
    assert known.all()
    assert marks(items)[0] == {7.0}
    assert times[:, 0].tolist() == [1.0] * len(times)
    assert not reader.gather(IDS)[2][0]


def test_there_is_one_writer(tmp_path: Path) -> None:
    """A second process is refused with the lock named; when the first is killed the next one may."""
    path = tmp_path / "items"
    with writing(path, "put"), pytest.raises(SnapshotTakenError, match=r"items\.lock: another process writes this snapshot"):
        Writer(path)
    Writer(path).close()
