"""Empty tables of the views that events alone fill: Feast wants a batch source beside each push source, for when it materialises."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from ranking.features import PUSHED_VIEWS, View
from ranking.layout import Layout

_TYPES = {
    "float32": pa.float32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "float32_list": pa.list_(pa.float32()),
    "int64_list": pa.list_(pa.int64()),
}


def write_blanks(layout: Layout) -> None:
    """Write those that are not there."""
    layout.pushed.mkdir(parents=True, exist_ok=True)
    for view in PUSHED_VIEWS:
        path = layout.pushed / f"{view.name}.parquet"
        if not path.exists():
            draft = path.with_suffix(".draft")
            pq.write_table(schema_of(view).empty_table(), draft)
            draft.replace(path)


def schema_of(view: View) -> pa.Schema:
    """A view's rows as Parquet has them."""
    fields = {f"{view.entity}_id": pa.string(), "event_timestamp": pa.timestamp("us", tz="UTC")}
    return pa.schema(list((fields | {f.name: _TYPES[f.dtype] for f in view}).items()))
