from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.toolbox.made_up import outcome
from training.toolbox import logs

OUTCOMES = [outcome("plain"), outcome("a/b c", (0.02, 0.01, 0.03))]


def _read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_tensorboard_reads_figures_and_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value of an outcome and every point of its learning curves comes back from TensorBoard's own reader."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert logs.write(tmp_path, OUTCOMES) == ["tensorboard"]
    run = tmp_path / "tensorboard" / "ads" / "member-a_b_c"
    assert [(e.step, round(e.value, 6)) for e in _read(run).Scalars("learning/loss")] == [(10, 0.5), (20, 0.4)]
    figures = _read(run / "figures")
    assert set(figures.Tags()["scalars"]) == {tag for tag, _ in logs.scalars(OUTCOMES[1])}
    assert figures.Scalars("all/ndcg10_gain_low")[0].value == pytest.approx(0.01)
    assert "_hparams_/session_start_info" in figures.summary_metadata


def test_a_new_run_replaces_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of an earlier run is left to be read as this one's."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logs.write(tmp_path, OUTCOMES)
    logs.write(tmp_path, OUTCOMES[:1])
    assert [p.name for p in (tmp_path / "tensorboard" / "ads").iterdir()] == ["member-plain"]


def test_what_is_undefined_is_not_logged() -> None:
    """A metric without a value has no tag, and neither have ends nobody computed."""
    tags = dict(logs.scalars(OUTCOMES[0]))
    assert "tail/recall10" not in tags
    assert tags["all/predicted_over_actual"] == 1.0
    assert "all/predicted_over_actual_low" not in tags


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"WANDB_MODE": "disabled", "WANDB_API_KEY": "k"}, False),
        ({"WANDB_MODE": "offline"}, True),
        ({"WANDB_API_KEY": "k"}, True),
    ],
)
def test_wandb_is_used_only_where_it_is_configured(environment: dict[str, str], wanted: bool) -> None:
    """Nothing is sent anywhere unless a mode or a key asks for it."""
    assert logs.wandb_configured(environment) == wanted


def test_wandb_that_is_wanted_and_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configured tracking is never silently left out."""
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"longtail\[tracking\]"):
        logs.wandb_configured({"WANDB_MODE": "offline"})


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_wandb_works_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any network one run per outcome lies on disk, ready to be synchronised."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path), "WANDB_API_KEY": ""}.items():
        monkeypatch.setenv(name, value)
    assert logs.write(tmp_path, OUTCOMES[:1]) == ["tensorboard", "wandb"]
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert list(runs[0].glob("*.wandb"))
