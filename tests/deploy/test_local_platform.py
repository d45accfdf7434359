"""The platform in the background: what was started is stopped, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import local, store
from deploy.files import locked
from ranking.errors import InvalidRelease, Unavailable
from ranking.layout import Layout
from ranking.pointer import Pointer, pointer_text
from tests.deploy.releases import alter, build_release


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def _remember(layout: Layout, process: subprocess.Popen[bytes], *, module: str = local.GATEWAY, started: int | None = None) -> None:
    running = {"module": module, "pid": process.pid, "started": started or local._start_time(process.pid), "log": "x"}
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
    assert (now["processes"], now["triton"], now["features"], now["gateway"], now["release"]) == ({}, None, None, None, None)


@pytest.mark.parametrize("content", [b'{"release": "r1", "act', b"\xff"])
def test_a_damaged_pointer_does_not_hide_what_runs(layout: Layout, sleeper: subprocess.Popen[bytes], content: bytes) -> None:
    """The status names the damaged pointer beside what runs, and says nothing of one that is whole."""
    _remember(layout, sleeper, module=local.CONTROLLER)
    _say_ready(layout, sleeper.pid)
    build_release(layout.releases, "r1", 1)
    store.activate(layout.releases, "r1")
    assert (local.status(layout)["release"], local.status(layout)["problem"]) == ("r1", "")
    layout.pointer.write_bytes(content)
    now = local.status(layout)
    assert list(now["processes"]) == [local.CONTROLLER]
    assert now["triton"]["ready"]
    assert now["release"] is None
    assert now["problem"].startswith("ACTIVE: is not")


def test_an_error_that_stands_is_not_waited_out(
    layout: Layout, tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps the controller from being ready is what `up` says."""
    monkeypatch.setattr(local, "_ERROR_S", 0.0)
    _remember(layout, sleeper, module=local.CONTROLLER)
    _say_ready(layout, sleeper.pid, ready=False, error="members[0]: is wrong")
    with pytest.raises(Unavailable, match=r"deploy\.controller is not ready: members\[0\]: is wrong"):
        local.up(layout, tmp_path)
    assert sleeper.poll() is None


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The releases whose activation was asked for; each ends the attempt."""
    releases: list[str] = []

    def activate(_: Layout, release_id: str, address: str) -> None:
        releases.append(release_id)
        raise InvalidRelease("far", "enough")

    monkeypatch.setattr("deploy.lifecycle.activate", activate)
    return releases


UNUSABLE = {"damaged pointer": ("{", "ACTIVE: is not JSON"), "release of another version": ("", "format: must be 2")}


@pytest.mark.parametrize(("pointer", "problem"), UNUSABLE.values(), ids=UNUSABLE)
def test_up_with_a_release_replaces_one_that_cannot_be_used(
    layout: Layout,
    tmp_path: Path,
    sleeper: subprocess.Popen[bytes],
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    pointer: str,
    problem: str,
) -> None:
    """A Triton that only what is active keeps from being ready is given the release asked for; without one it is an error."""
    monkeypatch.setattr(local, "_ERROR_S", 0.0)
    layout.releases.mkdir(parents=True)
    layout.pointer.write_text(pointer or pointer_text(Pointer("r0", "2026-01-01T00:00:00Z")))
    _remember(layout, sleeper, module=local.CONTROLLER)
    _say_ready(layout, sleeper.pid, ready=False, error=local.status(layout)["problem"] or problem)
    with pytest.raises(Unavailable, match=problem):
        local.up(layout, tmp_path)
    with pytest.raises(InvalidRelease, match="far: enough"):
        local.up(layout, tmp_path, release="r1")
    assert asked == ["r1"]


def test_up_passes_over_a_release_of_another_version(
    layout: Layout, tmp_path: Path, sleeper: subprocess.Popen[bytes], asked: list[str]
) -> None:
    """Where nobody can read the active release's manifest, the newest that can be read takes its place."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version)
    layout.pointer.write_text(pointer_text(Pointer("r2", "2026-01-01T00:00:00Z")))
    alter(layout.releases, "r2", lambda manifest: manifest.update(format=1))
    _remember(layout, sleeper, module=local.CONTROLLER)
    _say_ready(layout, sleeper.pid, ready=False, error="format: must be 2")
    with pytest.raises(InvalidRelease, match="far: enough"):
        local.up(layout, tmp_path)
    assert asked == ["r1"]


def test_up_without_triton_says_what_is_missing(layout: Layout, tmp_path: Path) -> None:
    """A process that cannot start is reported with the end of its log, and nothing stays behind."""
    with pytest.raises(Unavailable, match=r"deploy\.controller ended while starting"):
        local.up(layout, tmp_path, triton_port=0)
    assert local.status(layout)["processes"] == {}


def _say_ready(layout: Layout, pid: int, *, ready: bool = True, error: str = "") -> None:
    """What a controller writes that serves nothing and is ready, or is not and says why."""
    state = {"pid": pid, "triton_pid": pid, "grpc": "127.0.0.1:1", "http": "", "metrics": "", "release": None}
    state |= {"ready": ready, "error": error}
    (layout.run / "triton.json").write_text(json.dumps(state))


def test_a_failed_up_stops_only_what_it_started(layout: Layout, tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """The gateway that ran before runs on, and is still known, when the controller beside it cannot start."""
    _remember(layout, sleeper)
    with pytest.raises(Unavailable, match=r"deploy\.controller ended while starting"):
        local.up(layout, tmp_path, triton_port=0)
    assert sleeper.poll() is None
    assert list(local.status(layout)["processes"]) == [local.GATEWAY]
    assert local.down(layout) == [local.GATEWAY]


def test_a_refused_release_leaves_the_platform_running(
    layout: Layout, tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking a running platform for a release that is wrong is an error and no more than that."""

    def refuse(*_: object) -> None:
        raise InvalidRelease("members[0]", "is wrong")

    monkeypatch.setattr("deploy.lifecycle.activate", refuse)
    build_release(layout.releases, "r1", 1)
    _remember(layout, sleeper, module=local.CONTROLLER)
    _say_ready(layout, sleeper.pid)
    with pytest.raises(InvalidRelease, match="is wrong"):
        local.up(layout, tmp_path, release="r1")
    assert sleeper.poll() is None
    now = local.status(layout)
    assert list(now["processes"]) == [local.CONTROLLER]
    assert (now["triton"]["pid"], now["triton"]["ready"]) == (sleeper.pid, True)


def test_the_feature_process_is_started_before_the_gateway_and_not_waited_for(
    layout: Layout, tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of it, the gateway is started; it has a log of its own."""
    build_release(layout.releases, "r1", 1)
    store.activate(layout.releases, "r1")
    _remember(layout, sleeper, module=local.CONTROLLER)
    _say_ready(layout, sleeper.pid)
    started: list[str] = []
    start = local._start

    def wrongly(layout: Layout, module: str, options: list[str], environment: dict[str, str]) -> local.Running:
        started.append(module)
        return start(layout, module, ["--log-level", "none"], environment)

    monkeypatch.setattr(local, "_start", wrongly)
    with pytest.raises(Unavailable, match=r"services\.gateway ended while starting:\s.*LONGTAIL_LOG_LEVEL: must be DEBUG"):
        local.up(layout, tmp_path)
    assert started == [local.FEATURES, local.GATEWAY]
    assert (layout.logs / f"{local.FEATURES}.log").exists()
    assert list(local.status(layout)["processes"]) == [local.CONTROLLER]


def test_up_and_down_take_turns(layout: Layout, sleeper: subprocess.Popen[bytes]) -> None:
    """While one of them is at work the other waits."""
    _remember(layout, sleeper)
    stopped: list[str] = []
    with locked(layout.run / "platform.lock"):
        other = threading.Thread(target=lambda: stopped.extend(local.down(layout)))
        other.start()
        other.join(0.5)
        assert other.is_alive()
        assert sleeper.poll() is None
    other.join()
    assert stopped == [local.GATEWAY]


def test_make_clean_leaves_no_orphans(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """A platform that runs is stopped before its state goes, also where the path has a blank; its neighbours stay."""
    layout = Layout(tmp_path / "a home")
    _remember(layout, sleeper)
    (tmp_path / "a").mkdir()
    (tmp_path / "home").mkdir()
    subprocess.run(
        ["make", "clean", f"BIN={Path(sys.executable).parent}"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"LONGTAIL_HOME": str(layout.home)},
        check=True,
        capture_output=True,
    )
    assert sleeper.wait(5) is not None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "home"]


@pytest.mark.servers
@pytest.mark.parametrize("workers", [None, 2])
def test_a_killed_gateway_comes_back_on_its_port(
    layout: Layout, tmp_path: Path, sleeper: subprocess.Popen[bytes], workers: int | None
) -> None:
    """`kill -9`, of the workers' parent where there are several: its supervisor starts it again, and it serves at the address it had;
    `down` stops all for good.
    """
    build_release(layout.releases, "r1", 1)
    store.activate(layout.releases, "r1")
    started = local._start_time(sleeper.pid)
    others = [{"module": m, "pid": sleeper.pid, "started": started, "log": "x"} for m in (local.CONTROLLER, local.FEATURES)]
    layout.run.mkdir(parents=True, exist_ok=True)
    (layout.run / local.STATE).write_text(json.dumps({"processes": others}))
    _say_ready(layout, sleeper.pid)
    try:
        before = local.up(layout, tmp_path, address="127.0.0.1:0", workers=workers)["gateway"]
        assert len(before.get("workers", ())) == (workers or 0)
        os.kill(before["pid"], signal.SIGKILL)
        while (now := local.status(layout)["gateway"])["pid"] == before["pid"] or not now["ready"]:
            assert local.GATEWAY in local.status(layout)["processes"]
            time.sleep(0.05)
        assert now["address"] == before["address"]
        host, _, port = now["address"].rpartition(":")
        socket.create_connection((host, int(port))).close()
    finally:
        local.down(layout)
    assert local._start_time(now["pid"]) is None


def test_a_gateway_that_died_is_not_shown_as_ready(layout: Layout, sleeper: subprocess.Popen[bytes]) -> None:
    """What it said last is told with the word that it is being started again."""
    _remember(layout, sleeper)
    (layout.run / "gateway.json").write_text(json.dumps({"pid": 2**22 + 1, "ready": True, "address": "127.0.0.1:1"}))
    said = local.status(layout)["gateway"]
    assert (said["ready"], said["address"], said["error"]) == (False, "127.0.0.1:1", "it died and is being started again")


def test_a_feature_process_that_died_is_not_shown_as_ready(layout: Layout, sleeper: subprocess.Popen[bytes]) -> None:
    """What it said last is told with the word that it is being started again; its supervisor still runs."""
    _remember(layout, sleeper, module=local.FEATURES)
    for pid, ready in ((sleeper.pid, True), (2**22 + 1, False)):  # beyond the largest id there can be
        (layout.run / "features.json").write_text(json.dumps({"pid": pid, "ready": True, "error": "", "items": 5}))
        said = local.status(layout)["features"]
        assert (said["ready"], said["items"], bool(said["error"])) == (ready, 5, not ready)
