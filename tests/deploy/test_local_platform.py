from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import local
from ranking.errors import Unavailable
from ranking.layout import Layout


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def _remember(layout: Layout, process: subprocess.Popen[bytes], *, started: int | None = None) -> None:
    running = {"module": local.GATEWAY, "pid": process.pid, "started": started or local._start_time(process.pid), "log": "x"}
    layout.run.mkdir(parents=True, exist_ok=True)
    (layout.run / local.STATE).write_text(json.dumps({"processes": [running]}))


def test_down_stops_what_was_started(layout: Layout, sleeper: subprocess.Popen[bytes]) -> None:
    """A remembered process ends, and a second `down` finds nothing."""
    _remember(layout, sleeper)
    assert list(local.status(layout)["processes"]) == [local.GATEWAY]
    assert local.down(layout) == [local.GATEWAY]
    assert sleeper.wait(5) is not None
    assert local.down(layout) == []


def test_down_never_signals_a_stranger(layout: Layout, sleeper: subprocess.Popen[bytes]) -> None:
    """A process id that was given to another process since is left alone."""
    _remember(layout, sleeper, started=1)
    assert local.down(layout) == []
    assert sleeper.poll() is None


def test_status_of_an_empty_home(layout: Layout) -> None:
    """Nothing was ever started: nothing runs, no release is active."""
    now = local.status(layout)
    assert (now["processes"], now["triton"], now["gateway"], now["release"]) == ({}, None, None, None)


def test_up_without_triton_says_what_is_missing(layout: Layout, tmp_path: Path) -> None:
    """A process that cannot start is reported with the end of its log, and nothing stays behind."""
    with pytest.raises(Unavailable, match=r"deploy\.controller ended while starting"):
        local.up(layout, tmp_path, triton_port=0)
    assert local.status(layout)["processes"] == {}
