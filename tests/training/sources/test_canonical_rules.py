"""A gallery of wrong tables: each breaks one rule, and the rule is named."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ranking.layout import Layout
from tests.training.sources import tiny
from training.sources import canonical, own, prepare

ITEMS = "SELECT '1' AS item_id, 'Lamp' AS title"
EVENT = "'e' AS event_id, now() AS event_time, '' AS user_id, '1' AS item_id, 'click' AS event_type"
SHOWN = "'l' AS list_id, now() AS event_time, 'ads' AS surface, '' AS user_id, '' AS query, 1 AS label"
GALLERY = [
    ({"items": "SELECT '1' AS item_id"}, "items.title: missing"),
    ({"items": "SELECT 1 AS item_id, 'Lamp' AS title"}, "items.item_id: must be VARCHAR, is INTEGER"),
    ({"items": "SELECT NULL::VARCHAR AS item_id, 'Lamp' AS title"}, "items.item_id: is NULL (1 rows)"),
    ({"items": "SELECT '' AS item_id, 'Lamp' AS title"}, "items.item_id: is empty (1 rows)"),
    ({"items": f"{ITEMS} UNION ALL {ITEMS}"}, "items.item_id: must be unique (1 rows repeat)"),
    ({"items": f"{ITEMS}, -1.5 AS price"}, "items.price: must be >= 0 (1 rows)"),
    ({"items": f"{ITEMS}, 'nan'::DOUBLE AS price"}, "items.price: is not finite (1 rows)"),
    (
        {"items": ITEMS, "events": f"SELECT {EVENT} UNION ALL SELECT 'f', now(), '', '2', 'click'"},
        "events.item_id: is not among the items (1 rows)",
    ),
    (
        {"users": "SELECT 'ann' AS user_id", "events": f"SELECT * REPLACE ('bob' AS user_id) FROM (SELECT {EVENT})"},
        "events.user_id: is not among the users (1 rows)",
    ),
    (
        {"events": f"SELECT * REPLACE (event_time::TIMESTAMP AS event_time) FROM (SELECT {EVENT})"},
        "events.event_time: must be TIMESTAMP WITH TIME ZONE, is TIMESTAMP",
    ),
    ({"judgments": "SELECT 'q' AS query, '1' AS item_id, 2 AS gain"}, "judgments.gain: must be BETWEEN 0 AND 1 (1 rows)"),
    ({"reviews": "SELECT '1' AS item_id, 6 AS rating, '' AS text"}, "reviews.rating: must be BETWEEN 1 AND 5 (1 rows)"),
    (
        {"impressions": f"SELECT {SHOWN}, '1' AS item_id UNION ALL SELECT 'l', now(), 'ads', 'ann', '', 0, '2'"},
        "impressions.user_id: must be the same in the whole list (2 rows)",
    ),
    ({"promotions": "SELECT 1 AS week"}, "no table; known: items.parquet, users.parquet"),
]


@pytest.mark.parametrize(("tables", "message"), GALLERY, ids=[m for _, m in GALLERY])
def test_a_broken_rule_is_named(tmp_path: Path, tables: dict[str, str], message: str) -> None:
    """Exactly one line, of the table and column concerned."""
    for name, query in tables.items():
        duckdb.sql(f"COPY ({query}) TO '{tmp_path}/{name}.parquet'")
    (line,) = canonical.problems(tmp_path)
    assert line.startswith(message)


def test_a_shop_hears_everything_at_once(tmp_path: Path) -> None:
    """All that is wrong with one's own files comes in one error that names their folder, and no table is left."""
    raw = tmp_path / "raw"
    raw.mkdir()
    tiny.shop(raw)
    (raw / "items.csv").write_text("item_id,title,price\n007,Lamp,-1\n007,Lamp,2\n")
    with pytest.raises(
        ValueError, match=r"(?s)raw: not canonical tables.*price: must be >= 0.*must be unique.*events.item_id: is not among"
    ):
        prepare(Layout(tmp_path / "home"), "own", raw)
    assert not (tmp_path / "home" / "data" / "own").exists()


def test_ids_are_read_as_they_stand(tmp_path: Path) -> None:
    """`007` stays `007`, absent text is empty, a time without zone is UTC, and further columns are kept."""
    tiny.shop(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    own.write_tables(out, tmp_path)
    assert duckdb.sql(f"SELECT item_id, title, shelf FROM '{out}/items.parquet' ORDER BY 1").fetchall() == [
        ("007", "Lamp", "A"),
        ("8", "", "B"),
    ]
    hours = duckdb.sql(f"SELECT epoch(event_time) / 3600 % 24, user_id FROM '{out}/events.parquet' ORDER BY event_id").fetchall()
    assert hours == [(9.0, "ann"), (10.0, "")]


def test_a_table_twice_is_refused(tmp_path: Path) -> None:
    """Two files of one table: nobody guesses which is meant."""
    tiny.shop(tmp_path)
    (tmp_path / "items.parquet").touch()
    with pytest.raises(ValueError, match=r"items\.parquet and items\.csv are one table"):
        own.files(tmp_path)


def test_prepared_tables_can_be_brought_again(tmp_path: Path) -> None:
    """What one source wrote is a shop's own data too: keys are made anew, not doubled."""
    first, second = tmp_path / "first", tmp_path / "second"
    tiny.shop(tmp_path)
    for folder, path in ((first, tmp_path), (second, first)):
        folder.mkdir()
        own.write_tables(folder, path)
    assert duckdb.sql(f"FROM '{first}/items.parquet'").fetchall() == duckdb.sql(f"FROM '{second}/items.parquet'").fetchall()
