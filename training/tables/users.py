"""The user views' tables: what users declared, and what they bought before each snapshot.

Reads the tables of `facts`; the declarations are `ranking.features.USER_PROFILE` and `USER_BEHAVIOUR`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.features import (
    AFFINITY_HALF_LIFE,
    INTEREST_CATEGORIES,
    MAX_CATEGORIES,
    MAX_GROUPS,
    MAX_HISTORY,
    USER_BEHAVIOUR,
    USER_PROFILE,
    WHOLE,
    WINDOW,
)
from ranking.text import interest_text
from training.tables.duck import write

_DAY_US = 86_400e6
_GROUPED = {"type": "type_key", "maker": "maker_key"}  # name of the lists -> column of the lines
_REPEATED = ["user_id", "interest_text", *(f"{f.name}.list.element" for f in USER_BEHAVIOUR if f.dtype == "int64_list")]
"""Columns in which values come again and again: a dictionary makes them smaller, and only slows down the others."""
_NEVER_AGAIN = np.iinfo(np.int64).max
_cached_text = cache(interest_text)  # users share few sets of largest categories

# One row per line, as a state of its (user, item) pair: it holds from this purchase until the pair's next one. Sorted the way
# histories are listed, so that a snapshot is a filter and needs neither grouping nor sorting.
_STATES = f"""
SELECT user_code, item_key, epoch_us(bought_at) AS since,
       coalesce(epoch_us(lead(bought_at) OVER pair), {_NEVER_AGAIN}) AS until,
       (row_number() OVER pair)::FLOAT AS baskets
FROM lines
WINDOW pair AS (PARTITION BY user_code, item_key ORDER BY bought_at, basket_id)
ORDER BY user_code, since DESC, item_key
"""

_SCALARS = """
WITH bought AS (
    SELECT user_code, count(*) AS lines,
           sum(unit_price) / nullif(count(unit_price), 0) / 1e6 AS mean_unit_price,
           count(*) FILTER (is_private) / count(*) AS private_share,
           -- By lines and not by baskets: one that was begun before the snapshot may be finished after it.
           coalesce(sum(value) FILTER (bought_at >= $at - to_days($window)), 0) / 1e6 AS spend_28d
    FROM lines WHERE bought_at < $at GROUP BY user_code
), orders AS (
    SELECT user_code, count(*) AS orders_all, max(bought_at) AS last_at,
           count(*) FILTER (bought_at >= $at - to_days($window)) AS orders_28d
    FROM baskets WHERE bought_at < $at GROUP BY user_code
)
SELECT b.user_code, u.user_id, b.lines,
       o.orders_28d::FLOAT AS orders_28d,
       b.spend_28d::FLOAT AS spend_28d,
       o.orders_all::FLOAT AS orders_all,
       ((epoch_us($at) - epoch_us(o.last_at)) / 86400e6)::FLOAT AS days_since_order,
       coalesce(b.mean_unit_price, 0)::FLOAT AS mean_unit_price,
       b.private_share::FLOAT AS private_share
FROM bought b JOIN orders o USING (user_code) JOIN users u USING (user_code)
ORDER BY b.user_code
"""

_CATEGORIES = """
SELECT user_code, category_key, count(*) AS lines
FROM lines WHERE bought_at < $at AND category_key <> 0
GROUP BY ALL ORDER BY user_code, lines DESC, category_key
"""

# Lines by user, group and week, made once: a snapshot then fades a third of what it would have to. In the order in which it groups them.
_WEEKLY = """
CREATE TEMP TABLE weekly_{group} AS
SELECT user_code, {group} AS key, w.start_time, count(*) AS lines
FROM lines l JOIN weeks w USING (week) WHERE {group} <> 0 GROUP BY ALL ORDER BY user_code, key
"""

_AFFINITIES = f"""
SELECT user_code, key, sum(lines * faded) / {WHOLE} AS affinity
FROM weekly_{{group}} JOIN fading($at, {AFFINITY_HALF_LIFE}) USING (start_time)
GROUP BY user_code, key ORDER BY user_code, affinity DESC, key
"""


@dataclass(frozen=True, slots=True)
class _Groups:
    """The first `limit` rows of each user in a table sorted by user."""

    rows: NDArray[Any]  # (r,) kept rows, in order
    owners: NDArray[Any]  # (r,) position of each kept row's user in the list of users
    offsets: NDArray[np.int32]  # (u + 1,) where each user's kept rows begin
    sizes: NDArray[Any]  # (u,) rows of each user before the cut

    def lists(self, values: NDArray[Any]) -> pa.ListArray:
        """One list per user of the kept rows' (r,) values."""
        return pa.ListArray.from_arrays(pa.array(self.offsets), pa.array(values))


def _groups(codes: NDArray[Any], users: NDArray[Any], limit: int) -> _Groups:
    """Group (n,) ascending user codes by the (u,) ascending `users`, who include all of them."""
    starts, ends = np.searchsorted(codes, users, "left"), np.searchsorted(codes, users, "right")
    owners = np.repeat(np.arange(len(users)), ends - starts)
    kept = np.flatnonzero(np.arange(len(codes)) - starts[owners] < limit)
    offsets = np.concatenate(([0], np.cumsum(np.minimum(ends - starts, limit)))).astype(np.int32)
    return _Groups(kept, owners[kept], offsets, ends - starts)


def write_user_profile(db: duckdb.DuckDBPyConnection, out: Path, known_at: datetime) -> int:
    """One row per user, stamped `known_at`; none for the forgotten."""
    columns = ", ".join(f"{f.name}::FLOAT AS {f.name}" for f in USER_PROFILE)
    return write(
        db,
        f"SELECT user_id, TIMESTAMPTZ '{known_at.isoformat()}' AS event_timestamp, {columns} "
        "FROM users ANTI JOIN forgotten USING (user_code) ORDER BY user_code",
        out / f"{USER_PROFILE.name}.parquet",
    )


def write_user_behaviour(
    db: duckdb.DuckDBPyConnection, out: Path, snapshots: Sequence[datetime], done: Callable[[], None] = lambda: None
) -> int:
    """One row per user with a purchase before the snapshot, per snapshot, using purchases before it only.

    `done` is called after each snapshot.
    """
    states = db.execute(_STATES).fetchnumpy()
    for group in _GROUPED.values():
        db.execute(_WEEKLY.format(group=group))
    names = dict(db.execute("SELECT DISTINCT category_key, category FROM catalogue").fetchall())
    writer, rows = None, 0
    try:
        for at in snapshots:
            table = _snapshot(db, states, names, at)
            writer = writer or pq.ParquetWriter(
                out / f"{USER_BEHAVIOUR.name}.parquet", table.schema, compression="zstd", use_dictionary=_REPEATED
            )
            writer.write_table(table)  # a row group per snapshot: a reader of one week skips the others
            rows += len(table)
            done()
    finally:
        if writer:
            writer.close()
        for group in _GROUPED.values():
            db.execute(f"DROP TABLE weekly_{group}")
    return rows


def _snapshot(db: duckdb.DuckDBPyConnection, states: dict[str, NDArray[Any]], names: dict[int, str], at: datetime) -> pa.Table:
    scalars = db.execute(_SCALARS, {"at": at, "window": WINDOW.days}).to_arrow_table()
    users = scalars["user_code"].to_numpy()
    at_us = np.int64(np.datetime64(at.replace(tzinfo=None), "us").astype(np.int64))

    current = np.flatnonzero((states["since"] < at_us) & (states["until"] >= at_us))
    history = _groups(states["user_code"][current], users, MAX_HISTORY)
    row = current[history.rows]

    counted = db.execute(_CATEGORIES, {"at": at}).fetchnumpy()
    affinity = _groups(counted["user_code"], users, MAX_CATEGORIES)
    keys = counted["category_key"][affinity.rows]
    shares = counted["lines"][affinity.rows] / scalars["lines"].to_numpy()[affinity.owners]
    texts = [
        _cached_text(tuple(names[k] for k in keys[a : min(a + INTEREST_CATEGORIES, b)].tolist()))
        for a, b in zip(affinity.offsets[:-1], affinity.offsets[1:], strict=True)
    ]
    columns = {
        "distinct_items": pa.array(history.sizes.astype(np.float32)),
        "history_item_keys": history.lists(states["item_key"][row]),
        "history_counts": history.lists(states["baskets"][row]),
        "history_days": history.lists(((at_us - states["since"][row]) / _DAY_US).astype(np.float32)),
        "category_keys": affinity.lists(keys),
        "category_shares": affinity.lists(shares.astype(np.float32)),
        "interest_text": pa.array(texts, pa.string()),
    }
    for name, group in _GROUPED.items():
        found = db.execute(_AFFINITIES.format(group=group), {"at": at}).fetchnumpy()
        kept = _groups(found["user_code"], users, MAX_GROUPS)
        columns[f"{name}_keys"] = kept.lists(found["key"][kept.rows])
        columns[f"{name}_affinities"] = kept.lists(found["affinity"][kept.rows].astype(np.float32))
    columns |= {name: scalars[name] for name in scalars.column_names}
    stamps = pa.array([at] * len(users), pa.timestamp("us", tz="UTC"))
    return pa.table({"user_id": columns["user_id"], "event_timestamp": stamps} | {f.name: columns[f.name] for f in USER_BEHAVIOUR})
