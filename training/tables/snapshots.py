"""Writing rows of items, snapshot by snapshot. Knows no view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.features import View

ItemRows = tuple[NDArray[np.int64], Mapping[str, Any]]
"""Codes of the items a snapshot has rows of, ascending; of each feature, a value per item of the catalogue: numbers, or an Arrow array."""

_TYPES = {"float32": pa.float32(), "string": pa.string()}


def write_items(
    db: duckdb.DuckDBPyConnection, view: View, out: Path, snapshots: Sequence[datetime], found: Iterable[ItemRows], done: Callable[[], None]
) -> int:
    """Write what was found at each snapshot to the view's file, a row group each: a reader of one week skips the others. Rows in all."""
    ids = db.execute("SELECT item_id FROM catalogue ORDER BY item_code").to_arrow_table()["item_id"].combine_chunks()
    features = pa.schema([(feature.name, _TYPES[feature.dtype]) for feature in view])
    schema = pa.schema([(f"{view.entity}_id", pa.string()), ("event_timestamp", pa.timestamp("us", tz="UTC")), *features])
    rows = 0
    with pq.ParquetWriter(out / f"{view.name}.parquet", schema, compression="zstd") as writer:
        for at, (items, values) in zip(snapshots, found, strict=True):
            columns = [_column(values[field.name], items, field.type) for field in features]
            stamps = pa.repeat(pa.scalar(at, schema.field("event_timestamp").type), len(items))
            writer.write_table(pa.table([ids.take(pa.array(items)), stamps, *columns], schema))
            rows += len(items)
            done()
    return rows


def _column(values: Any, items: NDArray[np.int64], dtype: pa.DataType) -> pa.Array:
    return values.take(pa.array(items)) if isinstance(values, pa.Array) else pa.array(values[items].astype(dtype.to_pandas_dtype()))
