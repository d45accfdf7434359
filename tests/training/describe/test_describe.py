from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import duckdb
import pytest

from ranking.errors import UnknownName
from ranking.layout import Layout
from tests.training.sources import tiny
from training.describe import describe, report, text, write_page
from training.lists.types import WEEKS
from training.sources import prepare
from training.sources.files import write_meta
from training.splits import PARTS


def _tables(folder: Path, **queries: str) -> Path:
    """Canonical tables from SQL."""
    for name, query in queries.items():
        duckdb.sql(f"COPY ({query}) TO '{folder}/{name}.parquet'")
    write_meta(folder, "made", "1", {name: duckdb.sql(query).count("*").fetchone()[0] for name, query in queries.items()})
    return folder


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A hundred lists of two candidates; the click of nine in ten is on item 1 of category a."""
    return _tables(
        tmp_path,
        items="SELECT * FROM (VALUES ('1', 'x', 'a'), ('2', 'y', 'b'), ('3', 'z', 'b')) AS t(item_id, title, category)",
        impressions="""
            SELECT 'l' || l AS list_id, TIMESTAMPTZ '2026-01-01' AS event_time, 'ads' AS surface, '' AS user_id, '' AS query,
                   i::VARCHAR AS item_id, (i = CASE WHEN l % 10 = 0 THEN 2 ELSE 1 END)::INTEGER AS label
            FROM range(100) AS a(l), range(1, 3) AS b(i)""",
    )


def test_clicks_per_item_and_category_are_counted_over_the_whole_catalogue(lists: Path) -> None:
    """Item 3 was never clicked, yet counts; both categories were, 90 and 10 times."""
    found = describe(lists)
    per_item, per_category = found.balances["clicks per item"]["all"], found.balances["clicks per category"]["all"]
    assert (per_item.ranked.tolist(), per_item.untouched) == ([90, 10, 0], 1)
    assert (per_category.ranked.tolist(), per_category.imbalance_ratio) == ([90, 10], 90 / 10)


def test_parts_are_five_two_three_in_every_category(lists: Path) -> None:
    """Lists are split by what was clicked, and whole: each part has as many rows of either label."""
    found = describe(lists)
    assert {part: found.balances["clicks per category"][part].ranked.tolist() for part in PARTS} == {
        "train": [45, 5],
        "valid": [18, 2],
        "test": [27, 3],
    }
    assert found.labels["impressions.label"].counts == {"0": (50, 20, 30), "1": (50, 20, 30)}


def test_judgments_are_split_by_query(tmp_path: Path) -> None:
    """Ten queries of three products each: five, two and three queries, whole."""
    queries = "SELECT 'q' || q AS query, i::VARCHAR AS item_id, i / 4 AS gain FROM range(10) AS a(q), range(3) AS b(i)"
    found = describe(_tables(tmp_path, judgments=queries))
    assert found.labels["judgments.gain"].counts == dict.fromkeys(("0", "0.25", "0.5"), (5, 2, 3))
    assert found.balances == {}


def test_fine_gains_are_shown_in_tenths(tmp_path: Path) -> None:
    """A hundred different gains become eleven values."""
    found = describe(_tables(tmp_path, judgments="SELECT 'q' AS query, i::VARCHAR AS item_id, i / 100 AS gain FROM range(101) AS a(i)"))
    assert list(found.labels["judgments.gain"].counts) == ["0", *(f"0.{n}" for n in range(1, 10)), "1"]


def test_weeks_of_a_source_that_has_weeks_are_trainings(tmp_path: Path) -> None:
    """Events before the first training week are in no part, though they count in all."""
    weeks = (1, WEEKS["train"][0], WEEKS["train"][1], WEEKS["valid"][0], WEEKS["test"][0], WEEKS["test"][1])
    values = ", ".join(f"('{i}', {w})" for i, w in enumerate(weeks))
    found = describe(
        _tables(
            tmp_path,
            items="SELECT '1' AS item_id, 'x' AS title",
            weeks="SELECT 1 AS week",
            events=f"""
                SELECT event_id, now() AS event_time, '' AS user_id, '1' AS item_id, 'click' AS event_type, week
                FROM (VALUES {values}) AS t(event_id, week)""",
        )
    )
    assert [b.total for b in found.balances["events per item"].values()] == [6, 2, 1, 2]
    assert found.labels == {}  # one kind of event is no distribution


@pytest.mark.parametrize("name", ["esci", "clothing_reviews", "online_shoppers", "own"])
def test_every_source_reads_as_text_and_as_a_page(tmp_path: Path, name: str) -> None:
    """All tables and labels stand in the text and on the page, whose drawings are inside it."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    out.mkdir()
    tiny.write(name, raw, out)
    found = describe(out)
    page = tmp_path / "reports" / "data.html"
    write_page(page, found)
    html = page.read_text()
    for said in (text(found), html):
        for word in (name, *found.rows, *found.labels):
            assert word in said
    drawings = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert len(drawings) >= len(found.labels) > 0
    assert all(b"</svg>" in base64.b64decode(drawing) for drawing in drawings)
    assert set(re.findall(r'(?:src|href)="(?!data:)', html)) == set()


def test_further_columns_of_any_name_are_left_alone(tmp_path: Path) -> None:
    """Columns named like what a description calls its own change nothing of it."""
    names = ("part", "unit", "v", "row_number", "file_row_number", "stratum", "n", "items", "events", "label", "gain", "times")
    said = []
    for further in ((), names):
        folder = tmp_path / f"with {len(further)}"
        folder.mkdir()
        tiny.shop(folder)
        (folder / "reviews.csv").write_text("item_id,rating,text\n" + "".join(f"8,{1 + i % 5},x\n" for i in range(20)))
        (folder / "sessions.csv").write_text("session_id,label\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
        for file in folder.iterdir():
            head, *rows = file.read_text().splitlines()
            new = [name for name in further if name not in head.split(",")]
            file.write_text("\n".join([",".join([head, *new]), *(",".join([row, *("x" for _ in new)]) for row in rows)]) + "\n")
        said.append(text(describe(prepare(Layout(folder / "home"), "own", folder).path)))
    assert said[0] == said[1]


def test_interactions_that_never_happened_are_drawn_without_a_warning(tmp_path: Path) -> None:
    """A table of no events, and lists nobody clicked: the text and the page say so."""
    for name, query in {
        "events": "SELECT '1' AS event_id, now() AS event_time, '' AS user_id, '1' AS item_id, 'click' AS event_type LIMIT 0",
        "impressions": "SELECT 'l' AS list_id, now() AS event_time, 'ads' AS surface, '1' AS item_id, 0 AS label",
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        found = describe(_tables(folder, items="SELECT '1' AS item_id, 'x' AS title", **{name: query}))
        write_page(folder / "page.html", found)
        assert [b["all"].total for b in found.balances.values()] == [0]


def test_a_description_is_the_same_twice(lists: Path, tmp_path: Path) -> None:
    """No clock and no chance: equal tables give equal pages, byte for byte."""
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for page in pages:
        write_page(page, describe(lists))
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_prepared_source_is_reported_by_name(tmp_path: Path) -> None:
    """The text comes back, the page lies under the state directory; an unknown source is refused by name."""
    layout, raw = Layout(tmp_path / "home"), tmp_path / "raw"
    raw.mkdir()
    tiny.shop(raw)
    prepare(layout, "own", raw)
    said, page = report(layout, "own")
    assert said == text(describe(layout.canonical("own")))
    assert page == layout.home / "reports" / "data-own.html"
    assert page.exists()
    with pytest.raises(UnknownName, match="online_shoppers"):
        report(layout, "nobody's")


def test_what_was_not_prepared_is_asked_for(tmp_path: Path) -> None:
    """The error names the command."""
    with pytest.raises(FileNotFoundError, match="`longtail data prepare esci` makes them"):
        describe(tmp_path / "esci")


def test_the_meta_is_believed_for_rows_only(lists: Path) -> None:
    """Row counts come from `meta.json`, measures from the tables."""
    meta = json.loads((lists / "meta.json").read_text())
    assert describe(lists).rows == meta["rows"] == {"items": 3, "impressions": 200}
