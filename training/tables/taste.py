"""The taste views' tables: both sides of a factorisation of who bought what before each snapshot.

The first snapshot's factors are found from nothing, each later one's from those before it, which are as good and cost a fifth. Vectors of
different snapshots must still not be mixed, so each row names its own (`taste_at`), and `ranking.assemble` multiplies only vectors of one.
Reads `lines` of `facts`; how factors are found is `training.discovery`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.features import ITEM_TASTE, TASTE_WIDTH, USER_TASTE, View
from training.discovery.factorisation import als
from training.discovery.types import Factors, Purchases

SEED = 0
_WEEK_US = 7 * 86_400e6


def write_taste(
    db: duckdb.DuckDBPyConnection,
    out: Path,
    snapshots: Sequence[datetime],
    done: Callable[[], None] = lambda: None,
    *,
    older: Path | None = None,
) -> dict[str, int]:
    """Per snapshot one row per user and per item with a vector, from purchases before it only. Rows written by view.

    Users and items are numbered among those known before the snapshot: what comes later changes no vector, not even by its number.

    Args:
        db: with the tables of `facts`.
        out: where the views' files are written.
        snapshots: instants, ascending.
        done: called after each.
        older: folder of the views' files of earlier snapshots, whose last is gone on from.
    """
    # In an order of their own: the factors' last bits depend on it.
    lines = db.execute(
        "SELECT user_code, item_code, epoch_us(bought_at) AS at FROM lines ORDER BY bought_at, user_code, item_code, basket_id"
    ).fetchnumpy()
    names = {
        USER_TASTE: db.execute("SELECT user_id FROM users ORDER BY user_code").to_arrow_table()["user_id"],
        ITEM_TASTE: db.execute("SELECT item_id FROM items ORDER BY item_code").to_arrow_table()["item_id"],
    }
    last = {view: _last(older, view, ids) if older else None for view, ids in names.items()}
    written = {view.name: 0 for view in names}
    writers = {view: _writer(out, view) for view in names}
    try:
        for at in snapshots:
            at_us = round(at.timestamp() * 1e6)
            n = int(np.searchsorted(lines["at"], at_us))
            users, user_rows = _numbered(lines["user_code"][:n])
            items, item_rows = _numbered(lines["item_code"][:n])
            bought = Purchases(user_rows, item_rows, (at_us - lines["at"][:n]) / _WEEK_US, (len(users), len(items)))
            factors = _factors(bought, _start(last, users, items))
            for view, codes, vectors in ((USER_TASTE, users, factors.users), (ITEM_TASTE, items, factors.items)):
                kept = np.flatnonzero(vectors.any(axis=1))  # the others' products are 0, which is what no row means
                table = _table(view, names[view].take(pa.array(codes[kept])), at, vectors[kept])
                writers[view].write_table(table)  # a row group per snapshot: a reader of one week skips the others
                written[view.name] += len(table)
                last[view] = np.zeros((len(names[view]), TASTE_WIDTH), np.float32)
                last[view][codes] = vectors
            done()
    finally:
        for writer in writers.values():
            writer.close()
    return written


def _numbered(codes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct of (n,) codes, ascending, and the number of each among them: `np.unique` without its sorting. O(n + largest code)."""
    known = np.bincount(codes) > 0
    return np.flatnonzero(known), (np.cumsum(known) - 1)[codes]


def _factors(bought: Purchases, start: Factors | None) -> Factors:
    if not len(bought.users):
        return Factors(*(np.zeros((n, TASTE_WIDTH), np.float32) for n in bought.shape))
    return als(bought, width=TASTE_WIDTH, seed=SEED, start=start)


def _start(last: Mapping[View, NDArray[np.float32] | None], users: NDArray[np.int64], items: NDArray[np.int64]) -> Factors | None:
    """What the last snapshot found for these; None where it found nothing, or there is none."""
    before = last[USER_TASTE], last[ITEM_TASTE]
    if before[0] is None or before[1] is None or not before[1].any():
        return None
    return Factors(before[0][users], before[1][items])


def _last(older: Path, view: View, ids: pa.ChunkedArray) -> NDArray[np.float32]:
    """(ids, TASTE_WIDTH) vectors of the last snapshot in the file of `view`, 0 for those it has none of."""
    vectors = np.zeros((len(ids), TASTE_WIDTH), np.float32)
    with pq.ParquetFile(older / f"{view.name}.parquet") as file:
        if file.num_row_groups:
            table = file.read_row_group(file.num_row_groups - 1, columns=[f"{view.entity}_id", "taste"])
            at = pc.index_in(table[f"{view.entity}_id"], value_set=ids).to_numpy()
            vectors[at] = table["taste"].combine_chunks().flatten().to_numpy().reshape(-1, TASTE_WIDTH)
    return vectors


def _schema(view: View) -> pa.Schema:
    return pa.schema(
        [
            (f"{view.entity}_id", pa.string()),
            ("event_timestamp", pa.timestamp("us", tz="UTC")),
            ("taste", pa.list_(pa.float32())),
            ("taste_at", pa.int64()),
        ]
    )


def _writer(out: Path, view: View) -> pq.ParquetWriter:
    repeated = [f"{view.entity}_id", "event_timestamp", "taste_at"]  # a dictionary of numbers that never come again only takes time
    return pq.ParquetWriter(out / f"{view.name}.parquet", _schema(view), compression="zstd", use_dictionary=repeated)


def _table(view: View, ids: pa.ChunkedArray, at: datetime, vectors: NDArray[np.float32]) -> pa.Table:
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * TASTE_WIDTH)
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
    stamps = pa.array([at] * len(vectors), pa.timestamp("us", tz="UTC"))
    return pa.table([ids, stamps, lists, pa.array(np.full(len(vectors), round(at.timestamp())))], schema=_schema(view))
