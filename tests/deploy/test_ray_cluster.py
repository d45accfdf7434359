"""A search as a job of a real cluster of two nodes on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.training.data import ensemble_data
from training.artefacts import save_ensemble_data

pytestmark = [pytest.mark.servers, pytest.mark.exhaustive, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")


@dataclass(frozen=True)
class Cluster:
    jobs: str  # address of the job server
    nodes: tuple[subprocess.Popen[bytes], ...]


def _free() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _read(address: str) -> Any:
    with suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
        return json.loads(answer.read())
    return None


def _stop(node: subprocess.Popen[bytes]) -> None:
    """Ray's own processes lie in the group of the command that started them; nobody else's do."""
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        node.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """`ray start --head` and a second node, with one CPU each; stopped by their own process ids."""
    port, dashboard = _free(), _free()
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets need short paths
    common = ["--num-cpus", "1", "--block", "--disable-usage-stats", "--node-ip-address", "127.0.0.1"]
    head = [str(RAY), "start", "--head", "--port", str(port), "--dashboard-port", str(dashboard), "--temp-dir", str(folder), *common]
    nodes = [subprocess.Popen(head, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)]
    try:
        while _read(f"http://127.0.0.1:{dashboard}/api/version") is None:
            assert nodes[0].poll() is None, "the head ended by itself"
            time.sleep(1)
        second = [str(RAY), "start", "--address", f"127.0.0.1:{port}", *common]
        nodes.append(subprocess.Popen(second, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True))
        while len(_alive(dashboard)) < 2:
            assert nodes[1].poll() is None, "the second node ended by itself"
            time.sleep(1)
        yield Cluster(f"http://127.0.0.1:{dashboard}", tuple(nodes))
    finally:
        for node in reversed(nodes):
            _stop(node)
        shutil.rmtree(folder, ignore_errors=True)


def _alive(dashboard: int) -> list[Any]:
    said = _read(f"http://127.0.0.1:{dashboard}/nodes?view=summary") or {}
    return [n for n in said.get("data", {}).get("summary", []) if n.get("raylet", {}).get("state") == "ALIVE"]


def _command(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        words, cwd=ROOT, env=environment | {"RAY_JOBS_ADDRESS": cluster.jobs}, capture_output=True, text=True, timeout=600, check=False
    )


def test_a_search_is_submitted_and_found_again(cluster: Cluster, tmp_path: Path) -> None:
    """`longtail search submit` prints size and digest, follows the log to the winner; the same again is only read. Plain
    `ray job submit` of another name works as it is.
    """
    save_ensemble_data(tmp_path / "ads.npz", ensemble_data(rows=600))
    search = ["--data", str(tmp_path / "ads.npz"), "--storage", str(tmp_path / "searches"), "--trials", "2", "--rounds", "3"]
    submit = [sys.executable, "-m", "cli", "search", "submit", "--", *search, "--name", "sent"]
    first, second = _command(cluster, *submit), _command(cluster, *submit)
    assert first.returncode == second.returncode == 0, first.stdout + first.stderr + second.stdout + second.stderr
    assert "tracked files" in first.stdout
    assert json.loads(first.stdout.splitlines()[-1])["state"] == "SUCCEEDED"
    winner = [line for line in first.stdout.splitlines() if line.startswith('{"name": "sent"')]
    assert winner
    assert winner == [line for line in second.stdout.splitlines() if line.startswith('{"name": "sent"')]
    assert "sent: 0/2" not in second.stdout
    with tempfile.TemporaryDirectory() as copy:  # a clean checkout: no data, no .git
        for room in ("training", "ranking"):
            shutil.copytree(ROOT / room, Path(copy) / room, ignore=shutil.ignore_patterns("__pycache__"))
        plain = [str(RAY), "job", "submit", "--address", cluster.jobs, "--working-dir", copy, "--", "python", "-m", "training.search"]
        third = _command(cluster, *plain, *search, "--name", "plain")
    assert third.returncode == 0, third.stdout + third.stderr
    assert '{"name": "plain"' in third.stdout
