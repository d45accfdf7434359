"""The page on bringing one's own data does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ranking.layout import Layout
from training.describe import describe, text
from training.leaks import LeakFound
from training.sources import prepare
from training.sources.canonical import CAST, TABLES

PAGE = (Path(__file__).parents[3] / "docs" / "bring-your-own-data.md").read_text("utf-8")


@pytest.fixture
def my_shop(tmp_path: Path) -> Path:
    """The page's own files."""
    folder = tmp_path / "my_shop"
    folder.mkdir()
    for name, content in re.findall(r"```csv (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (folder / name).write_text(content)
    return folder


def test_the_example_prints_what_the_page_shows(my_shop: Path, tmp_path: Path) -> None:
    """Preparing and describing the example gives the page's text, letter for letter."""
    (shown,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert text(describe(prepare(Layout(tmp_path / "home"), "own", my_shop).path)) == shown


def test_the_wrong_example_is_refused_as_shown(my_shop: Path, tmp_path: Path) -> None:
    """A price of -1, an unknown item and a value in words are named in the page's words."""
    items, events = my_shop / "items.csv", my_shop / "events.csv"
    items.write_text(items.read_text().replace("4.90", "-1"))
    events.write_text(events.read_text().replace("bob,120", "bob,999").replace("39.90", "much", 1))
    (shown,) = re.findall(r"```\nlongtail: my_shop: (.*?)\n```", PAGE, re.DOTALL)
    with pytest.raises(ValueError, match="not canonical") as caught:
        prepare(Layout(tmp_path / "home"), "own", my_shop)
    assert str(caught.value) == f"{my_shop}: {shown}"


def test_every_declared_column_is_on_the_page() -> None:
    """The page's tables are the declared ones: names, types, needs and meanings."""
    for table, columns in TABLES.items():
        rows = [f"| `{c.name}` | {CAST[c.kind]} | {'yes' if c.required else ''} | {c.meaning} |" for c in columns]
        assert "\n".join([f"### `{table}`", "", "| column | type | needed | what it says |", "|---|---|---|---|", *rows]) + "\n" in PAGE


def test_the_code_on_the_page_runs() -> None:
    """With clean arrays it passes; with a planted leak it refuses."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    rng = np.random.default_rng(0)
    weeks = np.repeat(np.arange(38, 54), 10)
    given = {
        "list_ids": np.arange(160),
        "categories": np.tile(["lamps", "candles"], 80),
        "queries": np.array([f"q{i % 20}" for i in range(160)]),
        "weeks": weeks,
        "users": np.tile([f"u{i}" for i in range(10)], 16),
        "features": rng.normal(size=(160, 2)),
        "labels": rng.integers(0, 2, 160),
        "names": ("a", "b"),
        "known_at": np.full(160, np.datetime64("2026-01-01")),
        "asked_at": np.full(160, np.datetime64("2026-01-02")),
    }
    exec(code, dict(given))
    with pytest.raises(LeakFound, match="features: from the future"):
        exec(code, given | {"known_at": given["asked_at"]})
