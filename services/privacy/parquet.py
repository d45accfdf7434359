"""Users' rows taken out of Parquet files: each file that has some is written anew beside itself and put in its place.

Knows neither who the users are nor what the files are for.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def without(path: Path, column: str, values: Collection[str], *, empty: bool = True) -> int:
    """Remove the rows whose `column` is one of `values`; row groups are kept as they are cut. Returns how many rows went.

    A file without such rows is only read. Readers meet the old file or the new one.

    Args:
        path: the file; one that goes while this runs is no error, for logs are rotated.
        column: of strings.
        values: to be removed.
        empty: whether a file that keeps no row stays, and not goes too: as a table does, and a log's file does not.

    Raises:
        ValueError: the file has no such column.
        OSError: it cannot be read or written.
    """
    wanted = pa.array(sorted(values), pa.string())
    try:
        source = pq.ParquetFile(path)
    except FileNotFoundError:
        return 0
    with source:
        if column not in source.schema_arrow.names:
            raise ValueError(f"{path}: has no column {column}")
        found = sum(pc.sum(pc.is_in(part[column], wanted)).as_py() or 0 for part in source.iter_batches(columns=[column]))
        if not empty and found == source.metadata.num_rows:
            path.unlink(missing_ok=True)
            return int(found)
        if not found:
            return 0
        draft = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with pq.ParquetWriter(draft, source.schema_arrow, compression="zstd") as writer:
                for group in range(source.num_row_groups):
                    rows = source.read_row_group(group)
                    writer.write_table(rows.filter(pc.invert(pc.is_in(rows[column], wanted))))
            if path.exists():  # else it was rotated away meanwhile
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    return int(found)
