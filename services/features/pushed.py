"""Rows that were pushed, kept offline as well: what the online store had at any instant, between two runs of the batch too.

Parquet files in a folder per view, named by when they were written; beside the view's columns `pushed_at`, the wall clock once the row was
in the store. A row is in a file some seconds after its push; what a killed process had not written yet is missing there, and nowhere else.
Knows nothing of events and no store.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ranking.features import Entity, View
from ranking.types import IntArray
from services.features.blank import schema_of

log = logging.getLogger(__name__)
_INSTANT = pa.timestamp("us", tz="UTC")
_ROWS = 5000  # of one view, after which a file is written at once
_SECONDS = 5.0  # after which one is written in any case


@dataclass(slots=True)
class _Waiting:
    """Rows of one view that are in no file yet."""

    since: float  # monotonic
    ids: list[str] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    pushed_at: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)


class PushedRows:
    """Writes the files of one process; used by one thread."""

    def __init__(self, folder: Path, forgotten: Container[str], *, keep_s: float, clock: Callable[[], float] = time.time) -> None:
        """Nothing is made yet.

        Args:
            folder: where the views' folders go.
            forgotten: users of whom no row is written, whenever it was pushed.
            keep_s: age at which files are removed, in seconds.
            clock: seconds since 1970, for `pushed_at` and the age of files: the wall clock, whatever rows are as of.
        """
        self._folder, self._forgotten, self._keep_s, self._clock = folder, forgotten, keep_s, clock
        self._waiting: dict[View, _Waiting] = {}

    def add(self, view: View, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], stamps: IntArray) -> None:
        """Keep rows that the store has just taken; see `Sink.push` for the arguments."""
        waiting = self._waiting.setdefault(view, _Waiting(time.monotonic()))
        waiting.ids += ids
        waiting.stamps += stamps.tolist()
        waiting.pushed_at += [round(self._clock() * 1e6)] * len(ids)
        for feature in view:
            waiting.columns.setdefault(feature.name, []).extend(columns[feature.name])
        self.write(all_of_them=False)

    def write(self, *, all_of_them: bool) -> None:
        """Write the files that are due, or all. A disk that is full costs those rows and is logged; it must not hold up events."""
        for view, waiting in list(self._waiting.items()):
            if all_of_them or len(waiting.ids) >= _ROWS or time.monotonic() - waiting.since >= _SECONDS:
                del self._waiting[view]
                try:
                    self._write(view, waiting)
                except OSError as wrong:
                    log.error("pushed_rows_lost", extra={"view": view.name, "rows": len(waiting.ids), "detail": str(wrong)})

    def _write(self, view: View, waiting: _Waiting) -> None:
        schema = schema_of(view).append(pa.field("pushed_at", _INSTANT))
        columns: dict[str, Sequence[Any]] = {
            f"{view.entity}_id": waiting.ids,
            "event_timestamp": waiting.stamps,
            **waiting.columns,
            "pushed_at": waiting.pushed_at,
        }
        arrays = [_array(columns[name], schema.field(name).type) for name in schema.names]
        table = pa.table(arrays, schema=schema)
        if view.entity is Entity.USER:
            table = table.filter(pa.array([user not in self._forgotten for user in waiting.ids]))
        if not len(table):
            return
        folder = self._folder / view.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{round(self._clock() * 1e9):020d}-{os.getpid()}.parquet"  # names sort by age
        draft = path.with_suffix(".part")
        try:
            pq.write_table(table, draft, compression="zstd")
            draft.replace(path)  # a reader never meets half a file
        finally:
            draft.unlink(missing_ok=True)
        before = round((self._clock() - self._keep_s) * 1e9)
        for old in folder.glob("*.parquet"):
            if int(old.name[:20]) < before:
                old.unlink(missing_ok=True)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
