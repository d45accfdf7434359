"""Rows that the feature process made of events between two runs of the batch, as it kept them. Knows its files only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from ranking.features import View
from ranking.layout import Layout


class Row(NamedTuple):
    """One row of one entity."""

    pushed_at: int  # the wall clock once the store had it, µs since 1970
    event_time: int  # of the row, µs since 1970
    values: dict[str, Any]  # feature -> value


class Pushed:
    """The rows of one view, of some entities."""

    def __init__(self, layout: Layout, view: View, ids: Iterable[str]) -> None:
        """Read them.

        Raises:
            ValueError: a file is not one of these; names file and column.
        """
        self._rows: dict[str, list[Row]] = {}
        self._batch: dict[str, list[int]] = {}
        key, wanted = f"{view.entity}_id", pa.array(sorted(set(ids)), pa.string())
        for path in _files(layout, view):
            table = pq.read_table(path, filters=ds.field(key).isin(wanted))
            instants = [table[name].cast("int64").to_pylist() for name in ("pushed_at", "event_timestamp")]
            values = table.select([f.name for f in view]).to_pylist()
            for name, pushed_at, event_time, row in zip(table[key].to_pylist(), *instants, values, strict=True):
                self._rows.setdefault(name, []).append(Row(pushed_at, event_time, row))
        if self._rows:
            own = ds.field(key).isin(pa.array(sorted(self._rows), pa.string()))
            table = pq.read_table(layout.features / f"{view.name}.parquet", columns=[key, "event_timestamp"], filters=own)
            for name, event_time in zip(table[key].to_pylist(), table["event_timestamp"].cast("int64").to_pylist(), strict=True):
                self._batch.setdefault(name, []).append(event_time)

    def stood(self, key: str, since: int, until: int, as_of: int) -> list[Row | None]:
        """The rows the online store had of an entity within some time, oldest first; None is the batch's, or none. At least one.

        The newer one stands, and of two equally old ones the pushed one: it came later. Where the batch has no row of the entity, any does.

        Args:
            key: the entity's id.
            since: the wall clock when that time began, µs since 1970.
            until: and when it ended; a row of that very moment counts.
            as_of: the instant the store was asked for, µs since 1970: the batch's later rows were not in it.
        """
        batch = max((time for time in self._batch.get(key, ()) if time <= as_of), default=None)
        standing: Row | None = None
        found: list[Row | None] = [None]
        for row in sorted(self._rows.get(key, ()), key=lambda row: row.pushed_at):
            if row.pushed_at > until:
                break
            newest = batch if standing is None else standing.event_time
            if newest is None or row.event_time >= newest:
                standing = row
                found = [*found, row] if row.pushed_at > since else [row]
        return found


def entities(layout: Layout, view: View) -> set[str]:
    """Ids of all there are rows of."""
    found: set[str] = set()
    for path in _files(layout, view):
        found.update(pq.read_table(path, columns=[f"{view.entity}_id"])[0].to_pylist())
    return found


def _files(layout: Layout, view: View) -> Sequence[Path]:
    needed = [f"{view.entity}_id", "event_timestamp", "pushed_at", *(f.name for f in view)]
    files = sorted((layout.pushed_rows / view.name).glob("*.parquet"))
    for path in files:
        there = pq.read_schema(path).names
        if absent := [name for name in needed if name not in there]:
            raise ValueError(f"{path}: has no column {', '.join(absent)}")
    return files
