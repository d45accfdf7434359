"""The parent of the workers: what dies is started again, what cannot be kept ends it, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.gateway.settings import Settings
from services.gateway.workers import parent
from services.gateway.workers.parent import CrashLoopError, RefusedError, Workers
from tests.services.gateway_fakes import eventually

PROGRAM = Path(__file__).with_name("worker_program.py")


def workers(home: Path, deaths: dict[int, str] | None = None, **settings: object) -> Workers:
    """Two workers; `deaths` says how one dies."""
    chosen = {"home": home, "workers": 2, "worker_crashes": 2, "drain_s": 0.0, "grace_s": 0.0, "ledger_wait_s": 0.001} | settings

    def program(worker: int, address: str) -> Sequence[str]:
        return [sys.executable, str(PROGRAM), str(home), str(worker), address, *filter(None, [(deaths or {}).get(worker)])]

    return Workers(Settings(**chosen), program, "127.0.0.1:1")  # type: ignore[arg-type]


def pids(home: Path, worker: int) -> list[int]:
    """Of all the processes that were this worker, the last one last."""
    path = home / f"pids-{worker}"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_dead_worker_is_replaced_and_the_others_live_on(tmp_path: Path) -> None:
    """SIGKILL to worker 1: another process is worker 1, worker 2 is the one it was, and one restart is counted."""
    some, asked = workers(tmp_path), asyncio.Event()
    keeping = asyncio.create_task(some.keep(asked))
    await eventually(lambda: all(some.said()))
    first, second = pids(tmp_path, 1), pids(tmp_path, 2)
    os.kill(first[0], signal.SIGKILL)
    await eventually(lambda: len(pids(tmp_path, 1)) == 2 and all(some.said()))
    assert pids(tmp_path, 2) == second
    assert some.restarts == {1: 1, 2: 0}
    assert some.restarting() == []
    asked.set()
    await keeping
    assert all(gone(pid) for worker in (1, 2) for pid in pids(tmp_path, worker))


async def test_what_a_dead_worker_said_is_not_taken_for_its_successors(tmp_path: Path) -> None:
    """A status file of another process id says nothing of the worker there is now."""
    some, asked = workers(tmp_path), asyncio.Event()
    keeping = asyncio.create_task(some.keep(asked))
    await eventually(lambda: all(some.said()))
    path = tmp_path / "run" / "gateway-1.json"
    path.write_text(path.read_text().replace(str(pids(tmp_path, 1)[0]), "1"))
    assert [one is not None for one in some.said()] == [False, True]
    asked.set()
    await keeping


async def test_a_crash_loop_ends_all(tmp_path: Path) -> None:
    """A worker that dies at each start is started again `worker_crashes` times; then the error names it, and the other one is stopped."""
    some = workers(tmp_path, {2: "7"})
    with pytest.raises(CrashLoopError, match="worker 2 died 3 times in a row within 10 s of its start, last with status 7"):
        await some.keep(asyncio.Event())
    assert len(pids(tmp_path, 2)) == 3
    assert all(gone(pid) for pid in pids(tmp_path, 1))


async def test_deaths_of_workers_that_had_settled_are_no_loop(tmp_path: Path) -> None:
    """Where every life counts as settled, a worker is started again however often it dies."""
    some, asked = workers(tmp_path, {2: "7"}, worker_settled_s=1e-9), asyncio.Event()
    keeping = asyncio.create_task(some.keep(asked))
    await eventually(lambda: len(pids(tmp_path, 2)) > 4)
    asked.set()
    await keeping


async def test_a_worker_that_cannot_start_as_asked_is_not_started_again(tmp_path: Path) -> None:
    """Status 2 ends the parent at once, and the other worker with it."""
    with pytest.raises(RefusedError, match="worker 1 cannot start as asked"):
        await workers(tmp_path, {1: "2"}).keep(asyncio.Event())
    assert len(pids(tmp_path, 1)) == 1
    assert all(gone(pid) for pid in pids(tmp_path, 2))


async def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that minds no SIGTERM ends with the time there is for it."""
    monkeypatch.setattr(parent, "_STOP_S", 0.2)
    some, asked = workers(tmp_path, {1: "deaf"}), asyncio.Event()
    keeping = asyncio.create_task(some.keep(asked))
    await eventually(lambda: all(some.said()))
    asked.set()
    await keeping
    assert all(gone(pid) for worker in (1, 2) for pid in pids(tmp_path, worker))


async def test_a_parent_waits_for_the_workers_of_one_that_was_killed(tmp_path: Path) -> None:
    """While a worker of before lives on the address its successors are not begun; one on another address is nobody's business."""
    commands = [[sys.executable, str(PROGRAM), str(tmp_path), worker, at] for worker, at in (("1", "127.0.0.1:7"), ("2", "127.0.0.1:8"))]
    running = [await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE) for command in commands]
    await eventually(lambda: (tmp_path / "run" / "gateway-1.json").exists() and (tmp_path / "run" / "gateway-2.json").exists())
    waiting = asyncio.create_task(parent._without_left(parent.Layout(tmp_path), Settings(home=tmp_path, address="127.0.0.1:7")))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    os.kill(pids(tmp_path, 1)[0], signal.SIGTERM)
    await waiting
    assert not gone(pids(tmp_path, 2)[0])
    os.kill(pids(tmp_path, 2)[0], signal.SIGTERM)
    await asyncio.gather(*(process.wait() for process in running))  # the loop is not closed over them
    assert gone(pids(tmp_path, 2)[0])


def test_a_worker_is_the_same_program_with_the_parents_port() -> None:
    """What the parent was told comes first, what makes a worker of it after it, where it wins."""
    settings = Settings(workers=3, metrics_address="127.0.0.1:9090", caller_limits_split=2)
    words = parent.command(["--workers", "3", "--address", "127.0.0.1:0"], settings)(2, "127.0.0.1:5")
    assert list(words[:3]) == [sys.executable, "-m", "services.gateway"]
    assert list(words[3:7]) == ["--workers", "3", "--address", "127.0.0.1:0"]
    own = dict(zip(words[7::2], words[8::2], strict=True))
    assert own == {
        "--workers": "1",
        "--worker": "2",
        "--address": "127.0.0.1:5",
        "--reuse-port": "true",
        "--metrics-address": "127.0.0.1:0",
        **dict.fromkeys(("--metrics-cert", "--metrics-key", "--metrics-client-ca"), ""),
        "--caller-limits-split": str(2 * 3),
    }
