"""The batch's benchmark measures whole runs and leaves nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ranking.layout import Layout
from tests.training.tables.shops import STARTS, WEEKS, Line, Shop, write_shop
from training import sources, tables
from training.stage import Staged
from training.tables import bench


def test_rows_per_second_and_the_seconds_of_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full run's parts add up to no more than the run; a run that adds a week is measured apart."""
    canonical = tmp_path / "canonical"
    canonical.mkdir()
    lines = tuple(Line(n % 4, n, n % 9, STARTS[0] + timedelta(hours=29 * n), quantity=1, cents=100, discount=0) for n in range(40))
    write_shop(Shop(lines, frozenset({(1, 0, 1)})), canonical)
    monkeypatch.setattr(sources, "prepare", lambda _layout: Staged(canonical, "key", reused=True))
    monkeypatch.setattr(tables, "LAST_WEEK", WEEKS)
    layout = Layout(tmp_path / "home")
    layout.home.mkdir()
    found = bench.figures(layout, quick=True)
    in_turn, beside = ("facts", "views"), ("profiles", "user_behaviour", "item_statistics", "item_windows", "taste")
    assert found.keys() == {"batch_rows_per_s", "batch_s", "batch_grown_s", *(f"batch_{part}_s" for part in (*in_turn, *beside))}
    assert 0 < sum(found[f"batch_{part}_s"] for part in in_turn) <= found["batch_s"]
    assert all(0 < found[f"batch_{part}_s"] <= found["batch_views_s"] for part in beside)
    assert found["batch_rows_per_s"] > 0
    assert list(layout.home.iterdir()) == []
