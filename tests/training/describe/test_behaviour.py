"""What users do, measured on a shop small enough to count by hand."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from ranking.layout import Layout
from training.describe.behaviour import Funnel, measure
from training.describe.behaviour_page import write_page

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
# user, item, day, type, value
EVENTS = [
    ("ann", "milk", 0, "purchase", 1.0),
    ("ann", "milk", 7, "purchase", 1.0),
    ("ann", "bread", 7, "purchase", 2.0),
    ("ann", "milk", 15, "purchase", 1.0),
    ("bob", "milk", 1, "purchase", 1.0),
    ("bob", "rare", 8, "purchase", 4.0),
    ("cid", "bread", 2, "purchase", 10.0),
    ("cid", "bread", 2, "click", None),
    ("", "milk", 3, "purchase", 99.0),  # nobody known
]


def _write(folder: Path, events: list[tuple[str, str, int, str, float | None]], *, items: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "event_id": [str(i) for i in range(len(events))],
        "user_id": [e[0] for e in events],
        "item_id": [e[1] for e in events],
        "event_time": pa.array([MONDAY + timedelta(days=e[2]) for e in events], pa.timestamp("us", "UTC")),
        "event_type": [e[3] for e in events],
        "value": pa.array([e[4] for e in events], pa.float64()),
    }
    pq.write_table(pa.table(columns), folder / "events.parquet")
    if items:
        pq.write_table(pa.table({"item_id": ["milk", "bread", "rare"], "category": ["food", "food", "toys"]}), folder / "items.parquet")
    return folder


def test_users_orders_and_lines(tmp_path: Path) -> None:
    """An order is what a user bought at one time; those whom nobody knows are no users."""
    b = measure("own", _write(tmp_path, EVENTS), tmp_path / "no.db")
    assert (b.users, b.orders, b.lines) == (3, 3 + 2 + 1, 4 + 2 + 1)
    assert sorted(b.recency_days.tolist()) == [0.0, 15.0 - 8.0, 15.0 - 2.0]
    assert sorted(b.frequency.tolist()) == [1, 2, 3]


def test_segments_cover_everybody_once(tmp_path: Path) -> None:
    """Of three users each is a third: ann orders most and last, cid least and first; money goes with them."""
    b = measure("own", _write(tmp_path, EVENTS), tmp_path / "no.db")
    assert b.rfm_users.tolist() == np.eye(3, dtype=int).tolist()
    np.testing.assert_allclose(np.diag(b.rfm_spend), np.array([10.0, 5.0, 5.0]) / 20.0)


def test_affinities_and_repeats_by_category(tmp_path: Path) -> None:
    """Six of seven lines are food: cid's one line is food alone, bob's are half; two of food's six were bought before."""
    b = measure("own", _write(tmp_path, EVENTS), tmp_path / "no.db")
    assert b.categories == ("food", "toys")
    np.testing.assert_allclose(b.lift[0], np.array([1 / 1, 1 / 2, 4 / 4]) / (6 / 7))
    np.testing.assert_allclose(b.lift[1], np.array([0, 1 / 2, 0]) / (1 / 7))
    np.testing.assert_allclose(b.repeat_by_category, [2 / 6, 0])
    assert sorted(b.gap_days.tolist()) == [7.0, 8.0]


def test_head_and_tail_by_what_was_sold_before(tmp_path: Path) -> None:
    """Week 2: milk (2 sold) is the head of two items, bread the tail, rare was never sold; week 3 has milk alone."""
    b = measure("own", _write(tmp_path, EVENTS), tmp_path / "no.db")
    assert b.weeks.astype(str).tolist() == ["2026-03-02", "2026-03-09", "2026-03-16"]
    np.testing.assert_allclose(b.repeat_share, [0, 1 / 3, 1])
    np.testing.assert_allclose(b.head_share, [np.nan, 1 / 3, 1])
    np.testing.assert_allclose(b.new_share, [1, 1 / 3, 0])


def test_funnels_of_the_source_and_of_the_event_log(tmp_path: Path) -> None:
    """Each stage counts a user, item and day once, by surface; the log's events stand beside the source's."""
    log = tmp_path / "events.db"
    day = int(MONDAY.timestamp() * 1e9)
    with sqlite3.connect(log) as db:
        db.execute("CREATE TABLE event (user_id TEXT, item_id TEXT, event_time_ns INTEGER, surface TEXT, type TEXT)")
        db.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?)",
            [
                ("ann", "milk", day, "search", "impression"),
                ("ann", "milk", day + 1_000, "search", "impression"),
                ("ann", "rare", day, "search", "impression"),
                ("ann", "milk", day, "search", "click"),
                ("ann", "milk", day, "ads", "purchase"),
                ("ann", "milk", day, None, "rating"),
            ],
        )
    db.close()
    b = measure("own", _write(tmp_path / "own", EVENTS), log)
    assert b.funnels == (
        Funnel("own", "", (0, 1, 0, 7)),
        Funnel("event log", "ads", (0, 0, 0, 1)),
        Funnel("event log", "search", (2, 1, 0, 0)),
    )


def test_sources_without_it_say_so(tmp_path: Path) -> None:
    """No events, none of known users, nothing prepared: an error each; without items the categories are left out."""
    with pytest.raises(FileNotFoundError, match="data prepare own"):
        measure("own", tmp_path / "nothing", tmp_path / "no.db")
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "items.parquet")
    with pytest.raises(ValueError, match="has no events"):
        measure("own", tmp_path, tmp_path / "no.db")
    with pytest.raises(ValueError, match="no purchases of known users"):
        measure("own", _write(tmp_path, [("", "milk", 0, "purchase", 1.0), ("ann", "milk", 0, "click", None)]), tmp_path / "no.db")
    b = measure("own", _write(tmp_path / "bare", EVENTS, items=False), tmp_path / "no.db")
    assert b.categories == ()


def test_the_page_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file that loads nothing else, with every part; `longtail report users` writes it and names it."""
    canonical = _write(Layout(tmp_path).canonical("own"), EVENTS)
    page = tmp_path / "page.html"
    write_page(page, measure("own", canonical, tmp_path / "no.db"))
    text = page.read_text()
    for title in ("Segments by recency", "Category affinities", "Repeats", "Head and tail over time", "Funnels by surface"):
        assert title in text
    assert text.count("data:image/svg+xml") == 3
    assert "http://" not in text.replace("http://www.w3.org", "")
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["report", "users", "--source", "own"])
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip().splitlines()[-1]).read_text() == text
    assert "users of own measured … (6)" in result.stderr
