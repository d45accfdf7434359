"""The supervisor: what dies is started again, what was told to stop or cannot start is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy import supervise

ROOT = Path(__file__).resolve().parents[2]


def child(tmp_path: Path, *body: str) -> list[str]:
    """A command whose process writes its id down and goes on with `body`."""
    script = "\n".join(["import os, sys, time", f"open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')", *body])
    return [sys.executable, "-c", script]


def pids(tmp_path: Path, n: int) -> list[int]:
    """The ids of the first `n` children, as soon as there are so many."""
    while True:
        found = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
        if len(found) >= n:
            return [int(pid) for pid in found]
        time.sleep(0.01)


@pytest.mark.parametrize("code", [0, 2])
def test_a_child_that_ends_in_good_order_is_not_started_again(tmp_path: Path, code: int) -> None:
    """0: it was done; 2: it cannot start as asked, and would not the next time."""
    command = child(tmp_path, f"sys.exit({code})")
    assert supervise.supervise(command, threading.Event(), started=lambda _: None, pause_s=0.01) == code
    assert len(pids(tmp_path, 1)) == 1


def test_a_child_that_dies_is_started_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each death is told with its status, and the pause before the next start doubles."""
    command = child(tmp_path, f"sys.exit(0 if len(open({str(tmp_path / 'pids')!r}).readlines()) == 3 else 7)")
    assert supervise.supervise(command, threading.Event(), started=lambda _: None, pause_s=0.01) == 0
    assert len(set(pids(tmp_path, 3))) == 3
    assert [line.split("ended with ")[1] for line in capfd.readouterr().err.splitlines()] == [
        "7; it is started again in 0.01 s",
        "7; it is started again in 0.02 s",
    ]


def test_told_to_stop_it_stops_its_child(tmp_path: Path) -> None:
    """SIGTERM goes on to the child, which is killed once before so that there was a second one; both are gone, the status is 0."""
    (tmp_path / "sleeper.py").write_text(child(tmp_path, "time.sleep(600)")[2])
    command = [sys.executable, "-m", "deploy.supervise", "sleeper"]
    running = subprocess.Popen(command, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, stderr=subprocess.DEVNULL)
    os.kill(pids(tmp_path, 1)[0], signal.SIGKILL)
    second = pids(tmp_path, 2)[1]
    running.terminate()
    assert running.wait(30) == 0
    assert not Path(f"/proc/{second}").exists()


def test_killed_it_takes_its_child_along(tmp_path: Path) -> None:
    """No child is left to nobody."""
    (tmp_path / "sleeper.py").write_text(child(tmp_path, "time.sleep(600)")[2])
    command = [sys.executable, "-m", "deploy.supervise", "sleeper"]
    running = subprocess.Popen(command, env={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    (first,) = pids(tmp_path, 1)
    running.kill()
    running.wait()
    while Path(f"/proc/{first}").exists() and Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
