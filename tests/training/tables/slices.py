"""A small slice of the real Complete Journey, in the source's own file format, and state directories made from such files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from ranking.layout import Layout
from training import tables
from training.sources import completejourney
from training.stage import Staged, stage

FIRST_WEEK, LAST_WEEK = 44, 54


@dataclass(frozen=True)
class Slice:
    """Where the slice's files and tables lie."""

    raw: Path  # the source's Parquet files
    layout: Layout
    source: Staged

    @property
    def canonical(self) -> Path:
        return self.source.path


def write_slice(raw: Path) -> None:
    """Every 60th household, all it bought, and the promotions of a quarter of that in the stores it went to."""
    data = completejourney.installed()
    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as db:
        for name in completejourney.PARTS:
            db.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{data / name}.parquet')")

        def copy(query: str, name: str) -> None:
            db.execute(f"COPY ({query}) TO '{raw / name}.parquet' (FORMAT parquet)")

        copy("SELECT * FROM transactions WHERE household_id % 60 = 7", "transactions")
        copy("SELECT * FROM demographics", "demographics")
        db.execute(f"CREATE TABLE t AS SELECT * FROM read_parquet('{raw}/transactions.parquet')")
        copy("SELECT * FROM products WHERE product_id IN (SELECT product_id FROM t) OR product_id % 200 = 0", "products")
        copy(
            "SELECT p.* FROM promotions p SEMI JOIN (SELECT DISTINCT week, store_id FROM t) USING (week, store_id)"
            " SEMI JOIN (SELECT DISTINCT product_id FROM t WHERE product_id % 4 = 0) USING (product_id)",
            "promotions",
        )


def build(home: Path, raw: Path) -> Slice:
    """Canonical tables and features of raw files, under a state directory of their own."""
    layout = Layout(home)
    source = stage(layout.canonical("slice"), {"raw": str(raw)}, lambda out: completejourney.write_tables(out, raw))
    tables.compute(layout, source, first_week=FIRST_WEEK, last_week=LAST_WEEK)
    return Slice(raw, layout, source)
