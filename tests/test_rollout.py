"""The rollout's parts that need no servers: what it asks the search, and where it says that things lie."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app, rollout
from ranking.layout import Layout
from ranking.types import Surface
from training.profile import TINY
from training.search.config import parse
from training.searched import by_surface


def test_what_it_asks_is_a_search_file(tmp_path: Path) -> None:
    """Both stages on the pipeline's files, stored of the profile's sizes; a path may hold anything."""
    layout = Layout(tmp_path / 'a "quoted" home')
    asked = rollout.settings(layout, layout.training / "scores", TINY, 12)
    read = parse(tomllib.loads(f'name = "x"\n{asked}'), tmp_path)
    assert read.storage == layout.search
    assert read.rankers is not None
    assert read.ensemble is not None
    assert read.rankers.data == layout.training / "scores" / "search_texts.npz"
    assert (read.rankers.trials, read.rankers.epochs) == (3, TINY.bert_epochs)
    assert (read.ensemble.trials, read.ensemble.rounds, read.ensemble.rankers) == (12, TINY.trial_rounds, 1)


def test_a_search_is_given_by_surface() -> None:
    """`SURFACE=FOLDER`, and nothing else."""
    assert by_surface(["search=/a=b", "ads=c"]) == {Surface.SEARCH: Path("/a=b"), Surface.ADS: Path("c")}
    for word in ("email=/a", "search", "search="):
        with pytest.raises(ValueError, match=f"search: need SURFACE=FOLDER with a surface among ads, search, got '{word}'"):
            by_surface([word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "rollout", "--profile", "huge"], "'huge' is not known; known: tiny, demo, full"),
        (["train", "--search", "email=/a"], "search: need SURFACE=FOLDER with a surface among ads, search, got 'email=/a'"),
    ],
)
def test_wrong_words_are_refused_before_anything_runs(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, and the state directory is not made."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(app, words)
    assert done.exit_code != 0
    assert message in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "home").exists()
