"""What the feature process goes on from: every purchase line before the last snapshot, and when items were first promoted.

With the item profile's keys these are the `Lines` of `ranking.behaviour`. Reads the tables of `facts`.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb

from training.tables.duck import write

HISTORY, FIRST_SHOWN = "history", "first_shown"

# What is not known is written as `ranking.behaviour.NOT_KNOWN`.
_LINES = """
SELECT u.user_id, i.item_id, l.basket_id AS basket, l.bought_at, coalesce(l.value, 0) AS value,
       coalesce(l.unit_price, -1) AS unit_price, coalesce(l.off_shelf, -1) AS off_shelf
FROM lines l JOIN users u USING (user_code) JOIN items i USING (item_code)
WHERE l.bought_at < TIMESTAMPTZ '{until}' ORDER BY l.bought_at, l.user_code, l.basket_id, l.item_code
"""
_SHOWN = """
SELECT i.item_id, min(s.start_time) AS first_shown
FROM shown s JOIN items i USING (item_code)
WHERE s.start_time < TIMESTAMPTZ '{until}' GROUP BY i.item_id, i.item_code ORDER BY i.item_code
"""


def write_history(db: duckdb.DuckDBPyConnection, out: Path, until: datetime) -> dict[str, int]:
    """Both files, complete up to `until` (not included); rows by file."""
    return {
        name: write(db, query.format(until=until.isoformat()), out / f"{name}.parquet")
        for name, query in ((HISTORY, _LINES), (FIRST_SHOWN, _SHOWN))
    }
