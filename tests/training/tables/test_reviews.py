"""What reviews say of items comes from a file anyone may leave, as of when each was written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.tables import reviews
from training.tables.duck import connect

NOW = datetime(2020, 1, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)
INSTANT = pa.timestamp("us", tz="UTC")


def _file(folder: Path, **columns: Any) -> Path:
    table = {"item_id": ["a"], "at": pa.array([NOW], INSTANT), "value": [0.5]} | columns
    path = folder / "sentiment.parquet"
    pq.write_table(pa.table({name: column for name, column in table.items() if column is not None}), path)
    return path


def _rows(folder: Path, path: Path | None, snapshots: list[datetime]) -> list[dict[str, Any]]:
    with connect(folder) as db:
        reviews.load(db, path)
        reviews.write_item_reviews(db, folder, snapshots)
    return list(pq.read_table(folder / "item_reviews.parquet").to_pylist())


def test_a_snapshot_has_the_mean_of_what_was_written_before_it(tmp_path: Path) -> None:
    """A review counts from the first snapshot after it; items without one have no row."""
    times = pa.array([NOW - SECOND, NOW, NOW - SECOND], INSTANT)
    path = _file(tmp_path, item_id=["a", "a", "b"], at=times, value=[-1.0, 0.5, 0.25])
    found = _rows(tmp_path, path, [NOW, NOW + SECOND])
    assert [(r["item_id"], r["event_timestamp"], r["review_sentiment"], r["reviews"]) for r in found] == [
        ("a", NOW, -1.0, 1.0),
        ("b", NOW, 0.25, 1.0),
        ("a", NOW + SECOND, (-1 + 0.5) / 2, 2.0),
        ("b", NOW + SECOND, 0.25, 1.0),
    ]


def test_without_a_file_the_table_is_there_and_empty(tmp_path: Path) -> None:
    """Feast reads it all the same, and everybody has the declared default."""
    assert _rows(tmp_path, None, [NOW]) == _rows(tmp_path, tmp_path / "absent.parquet", [NOW]) == []


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"value": None}, "has no column value"),
        ({"value": ["good"]}, "value: must be a number, is string"),
        ({"at": pa.array([NOW.replace(tzinfo=None)], pa.timestamp("us"))}, "at: must be an instant with its zone"),
        ({"item_id": [7]}, "item_id: must be text, is int64"),
        ({"value": [1.5]}, r"row 0: value: must be from -1 to 1, got 1\.5"),
        ({"value": [float("nan")]}, "row 0: value: must be from -1 to 1, got nan"),
        ({"value": pa.array([None], pa.float64())}, "row 0: value: must be from -1 to 1, got None"),
        ({"item_id": [""]}, "row 0: item_id: is empty"),
        ({"at": pa.array([None], INSTANT)}, "row 0: at: is empty"),
    ],
)
def test_a_wrong_file_is_named_with_its_column(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    """Nothing is read of a file that is wrong anywhere."""
    path = _file(tmp_path, **columns)
    with connect(tmp_path) as db, pytest.raises(reviews.InvalidReviewsError, match=f"sentiment.parquet: {said}"):
        reviews.load(db, path)


def test_what_is_no_parquet_file_is_named(tmp_path: Path) -> None:
    """The message says which file."""
    path = tmp_path / "sentiment.parquet"
    path.write_text("item_id,at,value")
    with connect(tmp_path) as db, pytest.raises(reviews.InvalidReviewsError, match="is no Parquet file"):
        reviews.load(db, path)
