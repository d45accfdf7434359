from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.data import ensemble_data
from training.search import _choose


def _row(trial: str, ndcg: float, ratio: float) -> dict[str, object]:
    return {"trial": trial, "config": {"c": trial}, "metrics": {"ndcg10": ndcg, "predicted_over_actual": ratio}, "error": ""}


def test_the_best_calibrated_trial_wins() -> None:
    """A better NDCG does not excuse probabilities that are off by half."""
    result = _choose("x", [_row("a", 0.5, 1.6), _row("b", 0.4, 1.1), _row("c", 0.3, 1.0)])
    assert result.best_trial == "b"


def test_without_a_calibrated_trial_the_best_wins() -> None:
    """Where the gate leaves nothing, there is still a winner."""
    assert _choose("x", [_row("a", 0.5, 1.6), _row("b", 0.4, 9.0)]).best_trial == "a"


def test_failed_trials_are_kept_and_never_win() -> None:
    """A failing trial is recorded and the rest go on; only if all fail the search fails."""
    failed = {"trial": "f", "config": {}, "metrics": {}, "error": "out of memory"}
    assert _choose("x", [failed, _row("a", 0.1, 1.0)]).trials[-1]["error"] == "out of memory"
    with pytest.raises(RuntimeError, match="all 1 trials failed, the first with: out of memory"):
        _choose("x", [failed])


def test_objective_imports_without_ray() -> None:
    """The objective is importable where Ray is not installed."""
    code = "import sys; sys.modules['ray'] = None; import training.blends.ensemble, training.release.evaluate, training.release.publish"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.servers
def test_a_real_search_finishes_and_is_only_read_the_second_time(tmp_path: Path) -> None:
    """Two trials on a real local Ray; the same name again runs no trial and gives the same winner."""
    from training.artefacts import save_ensemble_data

    save_ensemble_data(tmp_path / "data.npz", ensemble_data(rows=1500))
    command = [sys.executable, "-m", "training.search", "--data", str(tmp_path / "data.npz"), "--name", "small"]
    command += ["--storage", str(tmp_path / "ray"), "--trials", "2", "--rounds", "5"]
    first, second = (subprocess.run(command, check=True, capture_output=True, text=True, timeout=200) for _ in range(2))
    assert '"trials": 2' in first.stdout
    assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]
    assert "small: 0/2" in second.stderr  # nothing ran again
