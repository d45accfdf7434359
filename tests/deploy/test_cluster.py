"""A search as a job of a real cluster of two nodes on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import cluster
from deploy.submit import pack
from ranking.errors import Unavailable
from tests.training.data import ensemble_data
from training.artefacts import save_ensemble_data

pytestmark = [pytest.mark.servers, pytest.mark.exhaustive, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")


@pytest.fixture(scope="module")
def running() -> Iterator[cluster.Cluster]:
    with cluster.started() as found:
        yield found


def _command(running: cluster.Cluster, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | running.environment
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False)


def _search(folder: Path, name: str) -> list[str]:
    save_ensemble_data(folder / "ads.npz", ensemble_data(rows=600))
    words = ["--data", str(folder / "ads.npz"), "--storage", str(folder / "searches"), "--trials", "2", "--rounds", "3", "--name", name]
    return [*words, "--resamplers", "none", "--calibrators", "platt"]


def test_plain_ray_job_submit_works_as_it_is(running: cluster.Cluster, tmp_path: Path) -> None:
    """In a checkout of the tracked files: the job's log ends with the winner, which lies in the storage it was given."""
    checkout, upload = tmp_path / "checkout", pack(ROOT)
    for name in upload.names:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    plain = [str(RAY), "job", "submit", "--working-dir", ".", "--", "python", "-m", "training.search"]
    said = _command(running, *plain, *_search(tmp_path, "plain"), cwd=checkout)
    assert said.returncode == 0, said.stdout + said.stderr
    result = json.loads((tmp_path / "searches" / "plain" / "result.json").read_text())
    assert len(result["trials"]) == 2
    (line,) = [line for line in said.stdout.splitlines() if line.startswith('{"name": "plain"')]
    assert json.loads(line)["best_trial"] == result["best_trial"]


def test_a_search_is_submitted_and_found_again(running: cluster.Cluster, tmp_path: Path) -> None:
    """`longtail search submit` prints size and digest and follows the log to the winner; the same again is only read."""
    submit = [sys.executable, "-m", "cli", "search", "submit", "--", *_search(tmp_path, "sent")]
    first, second = _command(running, *submit), _command(running, *submit)
    for said in (first, second):
        assert said.returncode == 0, said.stdout + said.stderr
        assert "tracked files" in said.stdout
        last = json.loads(said.stdout.splitlines()[-1])
        assert (last["state"], last["sha256"]) == ("SUCCEEDED", pack(ROOT).digest)
    winner = [line for line in first.stdout.splitlines() if line.startswith('{"name": "sent"')]
    assert len(winner) == 1
    assert winner == [line for line in second.stdout.splitlines() if line.startswith('{"name": "sent"')]
    trials = tmp_path / "searches" / "sent" / "trials"
    assert sorted(file.name for file in trials.iterdir()) == ["0000.json", "0001.json"]


def test_a_job_that_fails_is_told(running: cluster.Cluster, tmp_path: Path) -> None:
    """The job's own message is in the log that is followed, and the command's status is not 0."""
    words = _search(tmp_path, "failing")
    words[1] = str(tmp_path / "gone.npz")
    said = _command(running, sys.executable, "-m", "cli", "search", "submit", "--", *words)
    assert said.returncode == 1, said.stdout + said.stderr
    assert "gone.npz: no such file" in said.stdout
    assert json.loads(said.stdout.splitlines()[-1])["state"] == "FAILED"


def test_a_node_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its port taken, or an option Ray does not know: the end of Ray's own words, and nothing is left running."""
    monkeypatch.setattr(cluster, "_free", lambda: -1)
    with pytest.raises(Unavailable, match="Ray: a node ended with status"), cluster.started():
        pass
