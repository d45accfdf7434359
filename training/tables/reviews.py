"""The table of `ITEM_REVIEWS`: what reviews say of items, from a file that whoever computes sentiment leaves in the state directory.

The file is `ranking.layout.Layout.sentiment`, Parquet, a row per review: `item_id` (text), `at` (when it was written, an instant with its
zone), `value` (-1 worst … 1 best). It need not be there. How a sentiment is found is no concern of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ranking.features import ITEM_REVIEWS
from training.tables.duck import write

_TYPES = {"item_id": "text", "at": "an instant with its zone", "value": "a number"}

# In millionths: sums of whole numbers are equal in any order of addition.
_LOADED = "CREATE TABLE reviews (item_id VARCHAR, told_at TIMESTAMPTZ, value BIGINT)"
_READ = """INSERT INTO reviews SELECT item_id::VARCHAR, "at", round(value * 1e6)::BIGINT FROM read_parquet('{path}')"""
_WRONG = """
SELECT file_row_number FROM read_parquet('{path}', file_row_number = true)
WHERE coalesce(item_id, '') = '' OR "at" IS NULL OR value IS NULL OR NOT value BETWEEN -1 AND 1 ORDER BY 1 LIMIT 1
"""
_SNAPSHOT = """
SELECT item_id, $at AS event_timestamp,
       (sum(value) / count(*) / 1e6)::FLOAT AS review_sentiment, count(*)::FLOAT AS reviews
FROM reviews WHERE told_at < $at GROUP BY item_id ORDER BY item_id
"""


class InvalidReviewsError(ValueError):
    """The file of sentiments is not what it must be; the message names the file and the column."""


def load(db: duckdb.DuckDBPyConnection, path: Path | None) -> None:
    """Create the table ``reviews``: item_id, told_at, value in millionths; empty where there is no file.

    Raises:
        InvalidReviewsError: a column is missing or of another type, or a row is incomplete or out of bounds.
    """
    db.execute(_LOADED)
    if path is None or not path.exists():
        return
    _check_columns(path)
    name = str(path).replace("'", "''")
    wrong = db.execute(_WRONG.format(path=name)).fetchone()
    if wrong is not None:
        row = pq.read_table(path, columns=list(_TYPES)).slice(wrong[0], 1).to_pylist()[0]
        raise InvalidReviewsError(f"{path}: row {wrong[0]}: {_complaint(row)}")
    db.execute(_READ.format(path=name))


def write_item_reviews(db: duckdb.DuckDBPyConnection, out: Path, snapshots: Sequence[datetime]) -> int:
    """One row per item reviewed before the snapshot, per snapshot, of those reviews. Reads the table of `load`."""
    db.execute("CREATE TEMP TABLE reviewed (item_id VARCHAR, event_timestamp TIMESTAMPTZ, review_sentiment FLOAT, reviews FLOAT)")
    for at in snapshots:
        db.execute(f"INSERT INTO reviewed {_SNAPSHOT}", {"at": at})
    rows = write(db, "SELECT * FROM reviewed", out / f"{ITEM_REVIEWS.name}.parquet")
    db.execute("DROP TABLE reviewed")
    return rows


def _check_columns(path: Path) -> None:
    try:
        there = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as wrong:
        raise InvalidReviewsError(f"{path}: is no Parquet file ({wrong})") from None
    for name, what in _TYPES.items():
        if name not in there.names:
            raise InvalidReviewsError(f"{path}: has no column {name}")
        found = there.field(name).type
        fits = {
            "item_id": pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_dictionary(found),
            "at": pa.types.is_timestamp(found) and found.tz is not None,
            "value": pa.types.is_floating(found) or pa.types.is_integer(found),
        }
        if not fits[name]:
            raise InvalidReviewsError(f"{path}: {name}: must be {what}, is {found}")


def _complaint(row: dict[str, object]) -> str:
    if not row["item_id"]:
        return "item_id: is empty"
    if row["at"] is None:
        return "at: is empty"
    return f"value: must be from -1 to 1, got {row['value']}"
