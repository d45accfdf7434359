from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

import cli
from training.search import logs, report, status
from training.search.claim import claimed
from training.search.journal import Journal


def _search(path: Path, count: int = 8) -> Journal:
    """Ensembles of which the last failed; SMOTE orders better and predicts worse."""
    with claimed(path, {"stage": "ensemble", "trials": 10, "objective_weights": {"ndcg10": 1.0}}) as journal:
        for n in range(count):
            smote = n % 2
            config = {"resampler": "smote" if smote else "none", "strength": 0.1 * n, "options": {"neural": {"loss": "bce"}}}
            metrics = {"ndcg10": 0.2 + 0.1 * smote, "tail_share10": 0.1, "ne": 0.7 + 0.1 * smote}
            journal.report(n, {**metrics, "seconds": 2.0})
            journal.ended(n, config, None if n == count - 1 else metrics, 2.0, error="ValueError: <x>" if n == count - 1 else "")
        journal.report(count, {"ndcg10": 0.15, "seconds": 1.0})
    return journal


def test_a_running_search_says_how_far_it_is(tmp_path: Path) -> None:
    """Ended, failed, under way, the best so far and the front, and who works on it: read from files while another holds the name."""
    journal = _search(tmp_path / "x")
    with claimed(tmp_path / "x", json.loads((tmp_path / "x" / "asked.json").read_text())):
        (found,) = status.of(tmp_path / "x")
    assert (found.ended, found.trials, found.failed, found.stopped) == (8, 10, 1, 0)
    assert found.running.startswith("process ")
    assert found.best == journal.row(1)
    assert found.front == ["0000", "0001", "0002", "0003", "0004", "0005", "0006"]  # equal trials do not dominate each other
    assert list(found.under_way) == ["0008"]
    (idle,) = status.of(tmp_path / "x")
    assert idle.running == ""
    assert "8 of 10 trials ended (1 failed, 0 given up); nobody is at it: the same command goes on" in status.lines(idle)[0]


def test_status_and_report_are_commands(tmp_path: Path) -> None:
    """One JSON object last; the page's path; an unknown name is named."""
    _search(tmp_path / "x")
    said = CliRunner().invoke(cli.app, ["search", "status", "x", "--storage", str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout.splitlines()[-1])["ensemble"]["ended"] == 8
    made = CliRunner().invoke(cli.app, ["search", "report", "x", "--storage", str(tmp_path)])
    assert made.stdout.strip() == str(tmp_path / "x" / "report.html")
    missing = CliRunner().invoke(cli.app, ["search", "status", "y", "--storage", str(tmp_path)])
    assert missing.exit_code == 1
    assert "no search of this name has begun" in missing.stderr


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """Every plot is in the page; no address but data; a trial's error is text, not markup."""
    _search(tmp_path / "x")
    page = report.write(tmp_path / "x").read_text()
    for alt in ("ndcg10 by trial", "parameter importance", "Pareto front"):
        assert f'alt="{alt}"' in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "ValueError: &lt;x&gt;" in page
    assert "0.3000 (+0.1000)" in page  # SMOTE's NDCG over none's: 0.3 - 0.2


def test_importance_is_the_variance_a_parameter_tells(tmp_path: Path) -> None:
    """The resampler decides everything here, so its share is 1; what never changes has none."""
    found = report.importances(_search(tmp_path / "x").rows(), "ndcg10")
    assert found["resampler"] == pytest.approx(1.0)
    assert 0.0 <= found["strength"] < 1.0
    assert "options/neural/loss" not in found
    assert report.importances([], "ndcg10") == {}


def test_learning_curves_are_drawn_where_there_are_any(tmp_path: Path) -> None:
    """A trial with two reports makes the plot appear."""
    journal = _search(tmp_path / "x")
    assert list(report.curves(journal, journal.rows(), "ndcg10")) == []
    journal.report(0, {"ndcg10": 0.3, "seconds": 3.0})
    assert len(list(report.curves(journal, journal.rows(), "ndcg10"))) == 2


def test_tensorboard_has_every_trial(tmp_path: Path) -> None:
    """A run per trial, with its figure at its number and its learning curve by rung; a failed trial says why."""
    journal = _search(tmp_path / "x")
    for row in journal.rows():
        logs.board(journal, row)
    read = EventAccumulator(str(tmp_path / "x" / "tensorboard" / "0003"))
    read.Reload()
    (point,) = read.Scalars("trial/ndcg10")
    assert (point.step, point.value) == (3, pytest.approx(0.3))
    assert [e.step for e in read.Scalars("learning/ndcg10")] == [1]
    failed = EventAccumulator(str(tmp_path / "x" / "tensorboard" / "0007"))
    failed.Reload()
    assert "error/text_summary" in failed.Tags()["tensors"]


def test_weights_and_biases_work_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not asked for, nothing is written; offline, a run per trial lies in the search's folder."""
    journal = _search(tmp_path / "x", count=2)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not logs.wandb(journal, "x")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert logs.wandb(journal, "x")
    assert len(list((tmp_path / "x" / "wandb").glob("offline-run-*"))) == 2
