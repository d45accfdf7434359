from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.data import ensemble_data
from training.artefacts import digest, load_ensemble_data, save_ensemble_data, save_lists
from training.blends.ensemble import DEFAULT
from training.imbalance.losses import LOSSES
from training.imbalance.resample import RESAMPLERS
from training.members.registry import GIVEN, MEMBERS
from training.search import Choices, _choose, _claim, _within, run


def _row(trial: str, ndcg: float, ratio: float, ne: float | None = None) -> dict[str, object]:
    metrics = {"ndcg10": ndcg, "predicted_over_actual": ratio} | ({} if ne is None else {"ne": ne})
    return {"trial": trial, "config": {"c": trial}, "metrics": metrics, "error": ""}


def test_the_best_calibrated_trial_wins() -> None:
    """A better NDCG does not excuse probabilities that are off by half."""
    result = _choose("x", [_row("a", 0.5, 1.6), _row("b", 0.4, 1.1), _row("c", 0.3, 1.0)])
    assert result.best_trial == "b"


def test_of_trials_that_order_alike_the_one_with_the_better_probabilities_wins() -> None:
    """Within five thousandths of NDCG@10 normalised entropy decides, beyond them it does not; one that has none comes last."""
    alike = [_row("a", 0.2740, 1.1, 0.90), _row("b", 0.2729, 1.2, 0.78), _row("c", 0.2689, 1.0, 0.50), _row("d", 0.2735, 1.0)]
    assert _choose("x", alike).best_trial == "b"
    assert _choose("x", [alike[0], alike[3]]).best_trial == "a"
    assert _choose("x", [_row("a", 0.4, 1.0, 0.7), _row("b", 0.4, 1.0, 0.7), _row("c", 0.401, 1.0, 0.7)]).best_trial == "c"


def test_without_a_calibrated_trial_the_best_wins() -> None:
    """Where the gate leaves nothing, there is still a winner."""
    assert _choose("x", [_row("a", 0.5, 1.6), _row("b", 0.4, 9.0)]).best_trial == "a"


def test_failed_trials_are_kept_and_never_win() -> None:
    """A failing trial is recorded and the rest go on; only if all fail the search fails."""
    failed = {"trial": "f", "config": {}, "metrics": {}, "error": "out of memory"}
    assert _choose("x", [failed, _row("a", 0.1, 1.0)]).trials[-1]["error"] == "out of memory"
    with pytest.raises(RuntimeError, match="all 1 trials failed, the first with: out of memory"):
        _choose("x", [failed])


def test_a_fusion_never_wins() -> None:
    """A fusion orders best here and has no probabilities, so the next best is what can be served."""
    fused = {"trial": "f", "config": {"blend": "rrf"}, "metrics": {"ndcg10": 0.9}, "error": ""}
    result = _choose("x", [fused, _row("a", 0.5, 1.0)])
    assert (result.best_trial, result.trials[0]["trial"]) == ("a", "f")
    with pytest.raises(RuntimeError, match="none of them gives probabilities"):
        _choose("x", [fused])


def test_every_name_there_is_can_be_chosen() -> None:
    """All resamplers, members, losses, optimisers, blends, fusions and calibrators are valid names of a space."""
    choices = Choices(
        members=("+".join((*MEMBERS, *GIVEN)),),
        blends=("equal", "weighted", "per_tier", "stacking", "caruana", "rrf", "isr", "combsum", "combmnz"),
        resamplers=RESAMPLERS,
        calibrators=("platt", "isotonic", "temperature"),
        losses=tuple(LOSSES),
        optimisers=("adamw", "adagrad"),
    )
    assert choices.combinations() == 9 * len(RESAMPLERS) * 3 * len(LOSSES) * 2
    space = choices.space(0.03, 50)
    assert set(space["weights"]) == {*MEMBERS, *GIVEN}
    assert space["options"]["neural"]["loss"].categories == list(LOSSES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"members": ("boosting+forest",)}, "members: 'forest' is not known"),
        ({"blends": ("mean",)}, "blends: 'mean' is not known; known: equal"),
        ({"resamplers": ("smite",)}, "resamplers: 'smite' is not known"),
        ({"losses": ("hinge",)}, "losses: 'hinge' is not known"),
        ({"optimisers": ("sgd",)}, "optimisers: 'sgd' is not known"),
        ({"calibrators": ()}, "calibrators: need at least one"),
    ],
)
def test_names_nobody_knows_are_refused_before_anything_runs(names: dict[str, tuple[str, ...]], message: str) -> None:
    """The error names the kind, the name and what is known."""
    with pytest.raises(ValueError, match=message):
        Choices(**names)


def test_first_configurations_stay_within_the_choices() -> None:
    """What needs no search is tried first where the space has it, and left out where it has not."""
    known = {**DEFAULT, "rounds": 5}
    assert _within(known, Choices().space(0.03, 5)) == known
    assert _within(known, Choices(members=("logistic",)).space(0.03, 5)) == {}


def test_a_grid_larger_than_the_trials_and_unknown_searchers_are_refused(tmp_path: Path) -> None:
    """A grid is run whole or not at all; the searcher's name is checked like the others."""
    data = ensemble_data(rows=100)
    with pytest.raises(ValueError, match="trials: the grid has 15 combinations, more than 5"):
        run(data, name="x", storage=tmp_path, trials=5, rounds=1, seed=0, searcher="grid", choices=Choices(resamplers=RESAMPLERS[:5]))
    with pytest.raises(ValueError, match="trials: must be at least 1, got 0"):
        run(data, name="x", storage=tmp_path, trials=0, rounds=1, seed=0)
    with pytest.raises(ValueError, match="rounds: must be at least 1, got -1"):
        run(data, name="x", storage=tmp_path, trials=1, rounds=-1, seed=0)
    for name in ("../x", "a/b", "", ".."):
        with pytest.raises(ValueError, match="name: must be a folder's name"):
            run(data, name=name, storage=tmp_path, trials=1, rounds=1, seed=0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="searcher: 'lucky' is not known; known: bayesian, random, grid"):
        run(data, name="x", storage=tmp_path, trials=5, rounds=1, seed=0, searcher="lucky")


def test_a_name_stands_for_one_search(tmp_path: Path) -> None:
    """The same question again is no other search; another one is refused by what differs, before Ray starts."""
    asked = {"trials": 5, "data": digest(ensemble_data(rows=100)), "members": ("boosting", "boosting+bert")}
    _claim(tmp_path / "x", asked | {"trials": 9})
    (tmp_path / "x" / "tuner.pkl").touch()  # Ray writes it before any trial: a search stopped here has asked nothing yet
    _claim(tmp_path / "x", asked)
    assert not (tmp_path / "x" / "tuner.pkl").exists()
    for name in ("tuner.pkl", "experiment_state-2026.json"):
        (tmp_path / "x" / name).touch()
    _claim(tmp_path / "x", asked)
    with pytest.raises(ValueError, match=r"name: 'x' is another search in .*: trials was 5 and is 6\. Choose another name"):
        _claim(tmp_path / "x", asked | {"trials": 6})
    with pytest.raises(ValueError, match=r"data was .* and is "):
        _claim(tmp_path / "x", asked | {"data": digest(ensemble_data(rows=101))})


def test_a_folder_that_holds_no_search_is_left_alone(tmp_path: Path) -> None:
    """A name that happens to be a folder of something else is refused, and nothing in it is touched."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="mine is there and holds no search; choose another name"):
        _claim(tmp_path / "mine", {"trials": 1})
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


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
    """The objective is importable where Ray is not installed."""
    code = "import sys; sys.modules['ray'] = None; import training.blends.ensemble, training.release.evaluate, training.release.publish"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.servers
def test_a_real_search_finishes_and_is_only_read_the_second_time(tmp_path: Path) -> None:
    """Two trials on a real local Ray; the same name again runs no trial and gives the same winner."""
    save_ensemble_data(tmp_path / "data.npz", ensemble_data(rows=1500))
    command = [sys.executable, "-m", "training.search", "--data", str(tmp_path / "data.npz"), "--name", "small"]
    command += ["--storage", str(tmp_path / "ray"), "--trials", "2", "--rounds", "5"]
    first, second = (subprocess.run(command, check=True, capture_output=True, text=True, timeout=200) for _ in range(2))
    assert '"trials": 2' in first.stdout
    assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]
    assert "small: 0/2" in second.stderr  # nothing ran again


SMALL = Choices(
    members=("neural+bert", "lambdarank+bm25"),
    blends=("stacking", "rrf"),
    resamplers=("none",),
    calibrators=("platt",),
    losses=("softmax",),
)


def _names(config: dict[str, object]) -> set[str]:
    options = config.get("options", {}).get("neural", {}) if "neural" in str(config["members"]) else {}  # type: ignore[attr-defined]
    return {str(config[k]) for k in ("members", "blend", "resampler", "calibrator")} | set(options.values())


@pytest.mark.servers
def test_a_grid_tries_every_name_once(tmp_path: Path) -> None:
    """On a real local Ray every combination of a small space runs, none fails, and the winner can be served."""
    result = run(ensemble_data(rows=600), name="grid", storage=tmp_path, trials=4, rounds=3, seed=0, searcher="grid", choices=SMALL, cpus=2)
    assert len(result.trials) == SMALL.combinations() == 4
    assert [r["error"] for r in result.trials] == [""] * 4
    tried = set().union(*(_names(r["config"]) for r in result.trials))
    assert tried == {*SMALL.members, *SMALL.blends, *SMALL.resamplers, *SMALL.calibrators, *SMALL.losses, "adamw"}
    assert result.best["blend"] == "stacking"


@pytest.mark.servers
@pytest.mark.exhaustive
@pytest.mark.parametrize("searcher", ["random", "bayesian"])
def test_searchers_choose_among_names_and_numbers(tmp_path: Path, searcher: str) -> None:
    """Nested choices (a neural member's loss, weights by member) reach the trials, whichever searcher draws them."""
    choices = Choices(members=("neural+bert",), blends=("weighted",), losses=("bce", "focal"), resamplers=("none",))
    result = run(
        ensemble_data(rows=600), name="few", storage=tmp_path, trials=2, rounds=3, seed=0, searcher=searcher, choices=choices, cpus=2
    )
    assert [r["error"] for r in result.trials] == ["", ""]
    for row in result.trials:
        assert row["config"]["options"]["neural"]["loss"] in choices.losses
        assert set(row["config"]["weights"]) == {"neural", "bert"}
