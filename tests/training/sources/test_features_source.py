"""Which source feature tables are of is settled before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from ranking.layout import Layout
from training.sources import DEFAULT, of_features


def test_own_tables_are_not_silently_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tables of one's own are there: an error that says what to say, and nothing is made; so where they are asked for by name."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    Layout(tmp_path).canonical("own").mkdir(parents=True)
    for words, told in (([], f"say --source {DEFAULT}"), (["--source", "own"], f"of {DEFAULT} only")):
        done = CliRunner().invoke(app, ["features", "compute", *words])
        assert done.exit_code == 1
        assert told in done.output
        assert [path.name for path in Layout(tmp_path).canonical("own").parent.iterdir()] == ["own"]


def test_the_default_source_is_taken_where_it_is_meant(tmp_path: Path) -> None:
    """A new home, one that was told, and one that has its tables beside others."""
    layout = Layout(tmp_path)
    assert of_features(layout) == DEFAULT
    layout.canonical("own").mkdir(parents=True)
    assert of_features(layout, DEFAULT) == DEFAULT
    layout.canonical(DEFAULT).mkdir()
    assert of_features(layout) == DEFAULT
