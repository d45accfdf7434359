"""What `longtail release status` knows: the pointer, what a real Triton serves, and what the gateway says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from deploy import lifecycle, local, store, told, trials
from deploy.standing import standing
from deploy.triton.process import TritonServer
from ranking.layout import Layout
from ranking.trial import Mode
from tests.deploy.releases import build_release

pytestmark = pytest.mark.servers


@pytest.fixture
def anything() -> Iterator[int]:
    """The id of a process that runs."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def _remember(layout: Layout, pid: int, grpc: str, **gateway: Any) -> None:
    """State files as a controller and a gateway under this process id would have written them."""
    layout.run.mkdir(parents=True, exist_ok=True)
    running = [
        {"module": module, "pid": pid, "started": local._start_time(pid), "log": "x"} for module in (local.CONTROLLER, local.GATEWAY)
    ]
    (layout.run / local.STATE).write_text(json.dumps({"processes": running}))
    state = told.State(pid, pid, grpc, "", "", ready=True, release="r1", error="")
    (layout.run / told.STATE).write_text(json.dumps(asdict(state)))
    (layout.run / "gateway.json").write_text(json.dumps({"pid": pid, "address": "127.0.0.1:1", "ready": True} | gateway))


def test_all_of_it_is_told(layout: Layout, triton: TritonServer, anything: int) -> None:
    """Active release, history, trial, every loaded version, and whether the gateway follows; a silent Triton is said to be so."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version)
    lifecycle.activate(layout, "r1", triton.address)
    trial = trials.start(layout, "r2", triton.address, mode=Mode.CANARY, share=0.25)
    _remember(layout, anything, triton.address, release="r1", trial=asdict(trial))
    told = standing(layout)
    assert (told["active"], told["previous"], told["trial"], told["problems"]) == ("r1", [], asdict(trial), [])
    assert told["triton"]["serves"] == {model: {"1": "READY", "2": "READY"} for model in ("trees", "bert")}
    assert (told["gateway"]["release"], told["follows"]) == ("r1", True)
    store.end_trial(layout.releases, "r2 was wrong")
    _remember(layout, anything, "127.0.0.1:9", release="r1", trial=asdict(trial))
    told = standing(layout)
    assert (told["trial"], told["problems"], told["follows"]) == (None, ["r2 was wrong"], False)
    assert told["triton"]["serves"] is None
    assert "did not answer" in told["triton"]["error"]


def test_the_commands_of_a_trial(layout: Layout, triton: TritonServer, anything: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release goes from verify over shadow and canary to promotion by the words of the command line; what cannot be is one line."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version)
    lifecycle.activate(layout, "r1", triton.address)
    _remember(layout, anything, triton.address, release="r1")
    monkeypatch.setenv("LONGTAIL_HOME", str(layout.home))

    def run(words: str, status: int = 0) -> str:
        done = CliRunner().invoke(app, ["release", *words.split()])
        assert done.exit_code == status, done.output
        return " ".join(done.output.split())

    assert run("verify r2") == "release r2 is in order: trees (version 2 of trees), bert (version 2 of bert)"
    assert "r9" in run("verify r9", 1)
    assert "no release is on trial: name the one to try" in run("canary 5", 1)
    assert run("shadow r2") == "release r2 is on trial: shadow for 100 % of the users"
    assert run("canary 12.5") == "release r2 is on trial: canary for 12.5 % of the users"
    assert "trees 1 READY, trees 2 READY" in run("status")
    assert "the log of trials has no line of it" in run("compare", 1)
    assert run("end") == "the trial of r2 is ended"
    assert run("end") == "no release was on trial"
    assert "no release is on trial" in run("promote", 1)
    run("canary 50 r2")
    assert run("promote") == "release r2 is active"
    assert run("rollback") == "release r1 is active"
