"""The ensemble stage on real local Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.data import ensemble_data
from training.artefacts import load_ensemble_data, save_ensemble_data, save_lists
from training.search.choices import Choices
from training.search.choose import ENSEMBLE
from training.search.ensemble import run
from training.search.journal import Journal
from training.search.order import Order
from training.search.samplers import sampler
from training.search.space import Uniform


def test_data_that_are_none_are_named(tmp_path: Path) -> None:
    """A damaged file, another stage's file and a folder are refused by path."""
    save_ensemble_data(tmp_path / "whole.npz", ensemble_data(rows=100))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:1000])
    save_lists(tmp_path / "lists.npz", ensemble_data(rows=100).select)
    for name in ("cut", "lists"):
        with pytest.raises(ValueError, match=rf"{name}\.npz: holds no surface's rows and lists, or is damaged"):
            load_ensemble_data(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_ensemble_data(tmp_path)


def test_objective_imports_without_ray() -> None:
    """The objective, and all of the search but what runs it, are importable where Ray is not installed."""
    modules = "blends.ensemble, training.release.evaluate, training.release.publish, training.search.ensemble, training.search.__main__"
    subprocess.run([sys.executable, "-c", f"import sys; sys.modules['ray'] = None; import training.{modules}"], check=True)


@pytest.mark.servers
def test_a_real_search_finishes_and_is_only_read_the_second_time(tmp_path: Path) -> None:
    """Two trials on a real local Ray; the same name again starts no Ray and gives the same winner."""
    save_ensemble_data(tmp_path / "data.npz", ensemble_data(rows=1500))
    command = [sys.executable, "-m", "training.search", "--data", str(tmp_path / "data.npz"), "--name", "small"]
    command += ["--storage", str(tmp_path / "ray"), "--trials", "2", "--rounds", "5", "--searcher", "pareto"]
    first = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    said = json.loads(first.stdout.splitlines()[-1])
    found = json.loads((tmp_path / "ray" / "small" / "result.json").read_text())
    assert (said["trials"], said["best_trial"]) == (2, found["best_trial"])
    assert set(found["front"]) <= {"0000", "0001"}
    assert found["front"]
    assert not (tmp_path / "ray" / "small" / "fits").exists()
    second = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]


@pytest.mark.servers
def test_a_process_runs_one_trial_after_the_other(tmp_path: Path) -> None:
    """Without early stopping trials share processes: on one CPU all of them run in one."""
    from training.search import tuning

    def steps(config: Any, data: Any, seed: int, folder: Path, seen: int) -> Iterator[tuple[dict[str, float], bool]]:
        yield {"ndcg10": 0.5, "process": float(os.getpid())}, True

    order = Order(sampler("random", {"x": Uniform(0.0, 1.0)}, ENSEMBLE, 0), 4, 4, {})
    rows = tuning.run(steps, None, order, Journal(tmp_path), seed=0, what="shared", cpus=1)
    assert [row["error"] for row in rows] == [""] * 4
    assert len({row["metrics"]["process"] for row in rows}) == 1


SMALL = Choices(
    members=("neural+bert", "lambdarank+bm25"),
    blends=("stacking", "rrf"),
    resamplers=("none",),
    calibrators=("platt",),
    losses=("softmax",),
)


def _names(config: dict[str, Any]) -> set[str]:
    options = config["options"]["neural"] if "neural" in config["members"] else {}
    return {str(config[k]) for k in ("members", "blend", "resampler", "calibrator")} | set(options.values())


@pytest.mark.servers
@pytest.mark.exhaustive
def test_a_grid_tries_every_name_once(tmp_path: Path) -> None:
    """On a real local Ray every combination of a small space runs, none fails, and the winner can be served."""
    asked = {"trials": 4, "rounds": 3, "seed": 0, "searcher": "grid", "choices": SMALL, "cpus": 2, "compare": True}
    result = run(ensemble_data(rows=600), name="grid", storage=tmp_path, **asked)  # type: ignore[arg-type]
    assert len(result.trials) == SMALL.combinations() == 4
    assert [r["error"] for r in result.trials] == [""] * 4
    tried = set().union(*(_names(r["config"]) for r in result.trials))
    assert tried == {*SMALL.members, *SMALL.blends, *SMALL.resamplers, *SMALL.calibrators, *SMALL.losses, "adamw"}
    assert result.best["blend"] == "stacking"
