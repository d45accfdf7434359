"""The controller as operators run it: a process of its own that keeps a real Triton alive and in the desired state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from deploy import lifecycle, store, told, trials
from deploy.triton import process
from deploy.triton.client import TritonClient
from ranking.errors import LongtailError
from ranking.layout import Layout
from ranking.trial import Mode
from tests.deploy.releases import alter, build_release, features_batch, trees_logits
from tests.deploy.servers import use_installed

pytestmark = pytest.mark.servers

_PATIENCE_S = 90  # long past what any step takes, so that a slow machine is not a failure


@contextmanager
def _running(layout: Layout, port: int) -> Iterator[subprocess.Popen[bytes]]:
    use_installed(layout)
    layout.logs.mkdir(parents=True, exist_ok=True)
    with (layout.logs / "controller.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "deploy.controller", "--grpc-port", str(port)],
            env=os.environ | {"LONGTAIL_HOME": str(layout.home)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(_PATIENCE_S)


def _until(condition: Callable[[], bool], layout: Layout) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, (layout.logs / "controller.log").read_text()
        time.sleep(0.05)


def _state(layout: Layout) -> told.State:
    state = told.read_state(layout)
    assert state is not None
    return state


def _ready(layout: Layout, release: str | None, other_than: int = 0) -> Callable[[], bool]:
    """Whether a Triton serves `release`, and (one reading of the state: two may straddle a change) is not process `other_than`."""

    def check() -> bool:
        state = told.read_state(layout)
        return state is not None and state.ready and state.release == release and state.triton_pid != other_than

    return check


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _assert_scores(address: str, version: int, bias: float) -> None:
    features = features_batch(20)
    with TritonClient(address) as client:
        got = client.infer("trees", version, {"features": features}, "logit").reshape(-1)
        np.testing.assert_allclose(got, trees_logits(features, bias), atol=1e-5)


def test_a_killed_triton_comes_back_with_its_models(layout: Layout) -> None:
    """After kill -9 another Triton stands at the same address and serves the same releases, and nothing of the dead one is left."""
    port = process.free_port()
    with _running(layout, port):
        _until(_ready(layout, None), layout)
        for version in (1, 2):
            build_release(layout.releases, f"r{version}", version, bias=float(version))
            lifecycle.activate(layout, f"r{version}", _state(layout).grpc)
        _until(_ready(layout, "r2"), layout)
        before = _state(layout)
        stubs = _children(before.triton_pid)
        assert len(stubs) == 4  # two members, two versions

        os.kill(before.triton_pid, signal.SIGKILL)
        _until(_ready(layout, "r2", other_than=before.triton_pid), layout)

        after = _state(layout)
        assert after.grpc == before.grpc == f"127.0.0.1:{port}"
        for version in (1, 2):
            _assert_scores(after.grpc, version, float(version))
        assert not any(_alive(pid) for pid in stubs)


def test_a_model_whose_process_died_is_loaded_anew(layout: Layout) -> None:
    """Triton goes on calling such a model READY while it fails every request; the controller notices and mends it, Triton stays up."""
    with _running(layout, process.free_port()):
        _until(_ready(layout, None), layout)
        for version in (1, 2):
            build_release(layout.releases, f"r{version}", version, bias=float(version))
            lifecycle.activate(layout, f"r{version}", _state(layout).grpc)
        _until(_ready(layout, "r2"), layout)
        before = _state(layout)
        for stub in _children(before.triton_pid):
            os.kill(stub, signal.SIGKILL)

        def mended() -> bool:
            try:
                _assert_scores(before.grpc, 2, 2.0)
            except LongtailError:
                return False
            return True

        _until(mended, layout)
        assert _state(layout).triton_pid == before.triton_pid


def test_told_to_stop_it_takes_triton_along(layout: Layout) -> None:
    """SIGTERM ends the controller with status 0, Triton with it, and the state file goes."""
    with _running(layout, process.free_port()) as started:
        _until(_ready(layout, None), layout)
        triton = _state(layout).triton_pid
        started.terminate()
        assert started.wait(_PATIENCE_S) == 0
        assert not _alive(triton)
        assert told.read_state(layout) is None
        assert list(layout.run.glob("*.json")) == []


def test_a_killed_controller_leaves_no_triton_behind(layout: Layout) -> None:
    """When the controller itself is killed Triton ends too, so the next controller finds its port free."""
    port = process.free_port()
    with _running(layout, port) as started:
        _until(_ready(layout, None), layout)
        triton = _state(layout).triton_pid
        started.kill()
        started.wait(_PATIENCE_S)
        _until(lambda: not _alive(triton), layout)
        assert told.read_state(layout) is None  # the file is there, the process is not
    with _running(layout, port):
        _until(_ready(layout, None), layout)


def test_the_pointer_is_followed(layout: Layout) -> None:
    """A controller started on a store with an active release brings it up, and follows when the pointer moves."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    store.activate(layout.releases, "r1")
    with _running(layout, process.free_port()):
        _until(_ready(layout, "r1"), layout)
        store.activate(layout.releases, "r2")
        _until(_ready(layout, "r2"), layout)
        _assert_scores(_state(layout).grpc, 2, 2.0)


def test_a_missing_pointer_unloads_nothing(layout: Layout) -> None:
    """What is served stays served, by a new Triton too, and the state says what is missing until the pointer is back or names another."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    store.activate(layout.releases, "r1")
    missing = "ACTIVE: is missing; still serving r1"
    with _running(layout, process.free_port()):
        _until(_ready(layout, "r1"), layout)
        right, before = layout.pointer.read_bytes(), _state(layout)

        layout.pointer.unlink()
        _until(lambda: _state(layout).error == missing, layout)
        assert _ready(layout, "r1")()
        _assert_scores(before.grpc, 1, 1.0)

        os.kill(before.triton_pid, signal.SIGKILL)
        _until(_ready(layout, "r1", other_than=before.triton_pid), layout)
        _until(lambda: _state(layout).error == missing, layout)
        _assert_scores(before.grpc, 1, 1.0)

        layout.pointer.write_bytes(right)
        _until(lambda: _state(layout).error == "", layout)
        assert _ready(layout, "r1")()

        layout.pointer.unlink()
        _until(lambda: _state(layout).error == missing, layout)
        store.activate(layout.releases, "r2")
        _until(_ready(layout, "r2"), layout)
        assert _state(layout).error == ""
        _assert_scores(before.grpc, 2, 2.0)


def test_a_damaged_active_release_is_not_called_ready(layout: Layout) -> None:
    """It says what is wrong instead, Triton stays up, and putting it right is enough."""
    build_release(layout.releases, "r1", 1)
    right = (layout.releases / "r1" / "release.json").read_bytes()
    alter(layout.releases, "r1", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0))
    store.activate(layout.releases, "r1")
    with _running(layout, process.free_port()):
        _until(lambda: (s := told.read_state(layout)) is not None and "expected 9 within" in s.error, layout)
        before = _state(layout)
        assert (before.ready, before.release) == (False, None)
        (layout.releases / "r1" / "release.json").write_bytes(right)
        _until(_ready(layout, "r1"), layout)
        assert _state(layout).triton_pid == before.triton_pid


def test_a_damaged_repository_or_a_refusing_disk_does_not_end_it(layout: Layout) -> None:
    """What nobody foresaw is logged with its trace and tried again, Triton stays up, and all is well once the disk is."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    with _running(layout, process.free_port()):
        _until(_ready(layout, None), layout)
        before = _state(layout)
        (layout.triton_repository / "trees").write_text("a file where a directory belongs")
        store.activate(layout.releases, "r1")
        _until(lambda: "Error" in _state(layout).error, layout)
        assert "Traceback" in (layout.logs / "controller.log").read_text()
        (layout.triton_repository / "trees").unlink()
        _until(_ready(layout, "r1"), layout)

        for path in [*layout.triton_repository.rglob("config.pbtxt"), *layout.triton_repository.rglob("run.json")]:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        store.activate(layout.releases, "r2")
        _until(_ready(layout, "r2"), layout)
        _assert_scores(before.grpc, 2, 2.0)
        assert _state(layout).triton_pid == before.triton_pid


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_state_that_cannot_be_read_is_none(layout: Layout, text: str) -> None:
    """Anything but a whole state says that nothing is known."""
    layout.run.mkdir(parents=True)
    (layout.run / told.STATE).write_text(text)
    assert told.read_state(layout) is None


def test_one_state_directory_has_one_controller(layout: Layout) -> None:
    """A second controller on the same state directory refuses to start and says why."""
    with _running(layout, process.free_port()):
        _until(_ready(layout, None), layout)
        second = subprocess.run(
            [sys.executable, "-m", "deploy.controller", "--grpc-port", str(process.free_port())],
            env=os.environ | {"LONGTAIL_HOME": str(layout.home)},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert second.returncode == 1
        assert f"another controller runs on {layout.home}" in second.stderr


def test_without_the_wheel_it_says_what_to_do(layout: Layout) -> None:
    """A state directory without Triton is an error that names the command that mends it."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.controller", "--grpc-port", str(process.free_port())],
        env=os.environ | {"LONGTAIL_HOME": str(layout.home)},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "Triton is not installed" in done.stderr
    assert "nvidia-pytriton==0.7.0" in done.stderr


def test_a_trial_is_served_and_a_wrong_one_ended(layout: Layout) -> None:
    """A fresh Triton gets the release on trial beside the active one; once it is wrong its trial ends and the active one serves."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    port = process.free_port()
    with _running(layout, port):
        _until(_ready(layout, None), layout)
        address = _state(layout).grpc
        lifecycle.activate(layout, "r1", address)
        trials.start(layout, "r2", address, mode=Mode.CANARY, share=0.5)
        _until(_ready(layout, "r1"), layout)
        first = _state(layout).triton_pid
        os.kill(first, signal.SIGKILL)
        _until(_ready(layout, "r1", other_than=first), layout)
        _assert_scores(address, 1, 1.0)
        _assert_scores(address, 2, 2.0)
        second = _state(layout).triton_pid
        alter(layout.releases, "r2", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0))
        os.kill(second, signal.SIGKILL)
        _until(_ready(layout, "r1", other_than=second), layout)
        _until(lambda: store.trial_problem(layout.releases).startswith("the trial of r2 was ended: members[0] (trees).golden"), layout)
        now = store.pointer(layout.releases)
        assert now is not None
        assert (now.release, now.trial) == ("r1", None)
        _assert_scores(address, 1, 1.0)
