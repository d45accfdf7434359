"""A gallery of wrong tables: each breaks one rule, and the rule is named."""

from __future__ import annotations

import json
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
    ({"events": f"SELECT {EVENT}, 'banana' AS surface"}, "events.surface: must be IN ('search', 'ads', '') (1 rows)"),
    ({"events": f"SELECT {EVENT}, 0 AS position"}, "events.position: must be >= 1 (1 rows)"),
    (
        {"impressions": f"SELECT * REPLACE ('banana' AS surface) FROM (SELECT {SHOWN}, '1' AS item_id)"},
        "impressions.surface: must be IN ('search', 'ads') (1 rows)",
    ),
    ({"impressions": f"SELECT {SHOWN}, '1' AS item_id, -3 AS position"}, "impressions.position: must be >= 1 (1 rows)"),
    ({"sessions": "SELECT '1' AS session_id, 0.5 AS label"}, "sessions.label: must be BIGINT, is '0.5' in row 1 (1 rows)"),
    ({"sessions": "SELECT '1' AS session_id, 1.0::DOUBLE AS label"}, "sessions.label: must be BIGINT, is DOUBLE"),
    ({"reviews": "SELECT '1' AS item_id, 5 AS rating, '' AS text LIMIT 0"}, "reviews: has no row; leave the file out"),
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


SHOP = {
    "items": "item_id,title,category\na,A,c\n,B,c\n",
    "users": "user_id,age\nann,1\n,2\n",
    "events": "event_id,event_time,user_id,item_id,event_type\n1,2026-01-01,,a,click\n,2026-01-01,,,click\n",
}


def _lines(tmp_path: Path, **files: str) -> list[str]:
    """What `prepare` says of one's own CSV files."""
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    for name, content in files.items():
        (raw / f"{name}.csv").write_text(content)
    with pytest.raises(ValueError, match="not canonical tables") as refused:
        prepare(Layout(tmp_path / "home"), "own", raw)
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


def test_rows_without_an_id_are_named_not_dropped(tmp_path: Path) -> None:
    """An item, a user or an event without an id is an error of its table."""
    assert _lines(tmp_path, **SHOP) == [
        "items.item_id: is NULL (1 rows)",
        "users.user_id: is NULL (1 rows)",
        "events.event_id: is NULL (1 rows)",
        "events.item_id: is NULL (1 rows)",
    ]


IMPRESSIONS = "list_id,event_time,surface,user_id,query,item_id,position,label\nl,2026-01-01,ads,,,a,1,LABEL\nl,2026-01-01,ads,,,b,2,0\n"


@pytest.mark.parametrize("label", ["0.5", "1.4", "-0.4", "1.6", "1e30", "nan", "yes!"])
def test_what_is_no_integer_is_not_made_one(tmp_path: Path, label: str) -> None:
    """A label or place that would have to be rounded is refused, with its row."""
    found = _lines(
        tmp_path,
        impressions=IMPRESSIONS.replace(",LABEL", f",{label}").replace("b,2,", "b,2.5,"),
        sessions=f"session_id,label\n1,0\n2,{label}\n",
    )
    assert [line.partition(", is")[0] for line in found] == [
        "impressions.position: must be BIGINT",
        "impressions.label: must be BIGINT",
        "sessions.label: must be BIGINT",
    ]
    assert found[0].endswith("is '2.5' in row 2 (1 rows)")
    assert found[2].endswith("in row 2 (1 rows)")


@pytest.mark.parametrize("yes", ["1", "1.0", "true", "TRUE"])
def test_what_is_an_integer_is_read_as_one(tmp_path: Path, yes: str) -> None:
    """1, 1.0 and true are the label 1."""
    no = {"1": "0", "1.0": "0.0"}.get(yes, "false")
    (tmp_path / "sessions.csv").write_text(f"session_id,label\n1,{no}\n2,{yes}\n")
    folder = prepare(Layout(tmp_path / "home"), "own", tmp_path).path
    assert duckdb.sql(f"SELECT label::BIGINT FROM '{folder}/sessions.parquet' ORDER BY session_id").fetchall() == [(0,), (1,)]


def test_what_cannot_be_read_comes_with_all_other_broken_rules(tmp_path: Path) -> None:
    """Values that are not of their column's kind are named by row, as the file has them, beside everything else, and without SQL."""
    assert _lines(
        tmp_path,
        items="item_id,title,price,created_at\nz,Z,1,2026-01-01\ny,Y,cheap,soon\nx,X,dear,2026-01-02\n",
        events="event_id,event_time,user_id,item_id,event_type\n1,1767225600,,z,click\n1,1767225600,,w,click\n",
    ) == [
        "items.price: must be DOUBLE, is 'cheap' in row 2 (2 rows)",
        "items.created_at: must be TIMESTAMP WITH TIME ZONE, is 'soon' in row 2 (1 rows)",
        "events.event_time: must be TIMESTAMP WITH TIME ZONE, is '1767225600' in row 1 (2 rows)",
        "events.item_id: is not among the items (1 rows)",
        "events.event_id: must be unique (1 rows repeat)",
    ]


def test_a_further_column_that_turns_to_text_late_is_text(tmp_path: Path) -> None:
    """After 30,000 numbers, `A3`: all are kept as they stand; a column of numbers alone is one of numbers."""
    rows = "".join(f"{i},Lamp,{i},{i}\n" for i in range(30_000))
    (tmp_path / "items.csv").write_text(f"item_id,title,shelf,weight\n{rows}last,Lamp,A3,1\n")
    folder = prepare(Layout(tmp_path / "home"), "own", tmp_path).path
    kinds = duckdb.sql(f"SELECT typeof(shelf), typeof(weight), count(*) FROM '{folder}/items.parquet' GROUP BY ALL").fetchall()
    assert kinds == [("VARCHAR", "BIGINT", 30_001)]


def test_a_row_that_begins_with_a_hash_is_a_row(tmp_path: Path) -> None:
    """No row is taken for a comment."""
    (tmp_path / "items.csv").write_text("item_id,title\n#1,Lamp\n2,Lamp\n")
    assert json.loads((prepare(Layout(tmp_path / "home"), "own", tmp_path).path / "meta.json").read_text())["rows"] == {"items": 2}


@pytest.mark.parametrize("rows", ["1,Lamp\n2,Lamp,red\n", "1,Lamp\n2\n", "1,Lamp\n2,\xff\n"])
def test_a_file_that_is_no_table_is_named_without_advice(tmp_path: Path, rows: str) -> None:
    """Rows of different lengths or not of UTF-8: the error names the file, and quotes neither SQL nor options of the reader."""
    (tmp_path / "items.csv").write_bytes(b"item_id,title\n" + rows.encode("latin-1"))
    with pytest.raises(ValueError, match=r"items\.csv: ") as refused:
        prepare(Layout(tmp_path / "home"), "own", tmp_path)
    assert not any(word in str(refused.value) for word in ("LINE", "sample_size", "ignore_errors", "CAST"))
