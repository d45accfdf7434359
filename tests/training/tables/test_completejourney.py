"""The Complete Journey as canonical tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from ranking.errors import UnknownName
from ranking.features import stable_key
from ranking.text import item_text, text_digest
from tests.training.tables.slices import Slice
from training.sources import completejourney, source


def _one(query: str):
    return duckdb.sql(query).fetchone()


def test_every_purchase_of_the_whole_year_lies_in_its_week() -> None:
    """The source's weeks begin on Monday midnight in New York: no transaction of the full data lies outside its own."""
    data = completejourney.installed()
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        start = "timezone('America/New_York', TIMESTAMP '2016-12-26' + to_days((7 * ({week} - 1))::INTEGER))"
        outside = db.execute(f"""
            SELECT count(*) FROM (SELECT timezone('UTC', transaction_timestamp) AS bought_at, week FROM '{data}/transactions.parquet')
            WHERE bought_at < {start.format(week="week")} OR bought_at >= {start.format(week="week + 1")}""").fetchone()
    assert outside == (0,)


def test_no_row_is_lost_and_ids_are_unique(small: Slice) -> None:
    """Each transaction is one event, and each item's code is its place by stable key."""
    c = small.canonical
    assert _one(f"SELECT count(*) FROM '{c}/events.parquet'") == _one(f"SELECT count(*) FROM '{small.raw}/transactions.parquet'")
    assert _one(f"SELECT count(*) - count(DISTINCT event_id) FROM '{c}/events.parquet'") == (0,)
    items = duckdb.sql(f"SELECT item_id, item_code, item_key FROM '{c}/items.parquet' ORDER BY item_code").fetchall()
    assert [code for _, code, _ in items] == list(range(len(items)))
    assert [key for _, _, key in items] == sorted(stable_key(name) for name, _, _ in items)


def test_an_item_reads_as_its_catalogue_fields(small: Slice) -> None:
    """Title, digest and category key are what `ranking` makes of the product's fields, empty where there are none."""
    rows = duckdb.sql(f"""
        SELECT p.product_type, p.product_category, p.brand, p.package_size, p.department, i.title, i.text_digest, i.category_key
        FROM '{small.canonical}/items.parquet' i JOIN '{small.raw}/products.parquet' p ON i.item_id = p.product_id::VARCHAR""").fetchall()
    assert len(rows) > 1000
    for *fields, title, digest, category in rows:
        assert title == item_text(*fields)
        assert digest == text_digest(title)
        assert category == stable_key(fields[1] or "")


def test_a_promotion_named_twice_is_one_with_both_placements(small: Slice, tmp_path: Path) -> None:
    """Two lines of one (week, store, product) become one row: on display if either says so, in the mailer if either does."""
    raw = tmp_path / "raw"
    shutil.copytree(small.raw, raw)
    (raw / "promotions.parquet").unlink()
    product = duckdb.sql(f"SELECT min(product_id) FROM '{raw}/products.parquet'").fetchone()[0]
    lines = f"VALUES ({product}, 1, '0', 'A', 3), ({product}, 1, '5', '0', 3), ({product}, 2, '5', '0', 3), ({product}, 2, '0', '0', 4)"
    duckdb.sql(
        "COPY (SELECT col0 AS product_id, col1 AS store_id, col2 AS display_location, col3 AS mailer_location, col4 AS week"
        f" FROM ({lines})) TO '{raw}/promotions.parquet' (FORMAT parquet)"
    )
    out = tmp_path / "out"
    out.mkdir()
    completejourney.write_tables(out, raw)
    found = duckdb.sql(f"SELECT week, store_id, on_display, in_mailer FROM '{out}/promotions.parquet' ORDER BY ALL").fetchall()
    assert found == [(3, 1, True, True), (3, 2, True, False)]


def test_an_unknown_source_is_refused_by_name() -> None:
    """The error names what is known."""
    with pytest.raises(UnknownName, match="completejourney"):
        source("esci2")
