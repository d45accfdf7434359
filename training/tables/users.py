"""The user views' tables: what users declared, and what they bought before each snapshot.

Reads the tables of `facts`; the declarations are `ranking.features.USER_PROFILE` and `USER_BEHAVIOUR`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from training.tables.sold import NEVER, IntArray, us
from training.tables.weekly import Weeks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_DAY_US = 86_400e6
_REPEATED = ["user_id", "interest_text", *(f"{f.name}.list.element" for f in USER_BEHAVIOUR if f.dtype == "int64_list")]
"""Columns in which values come again and again: a dictionary makes them smaller, and only slows down the others."""
_cached_text = cache(interest_text)  # users share few sets of largest categories

# One row per line, as a state of its (user, item) pair: it holds from this purchase until the pair's next one. Sorted the way
# histories are listed, so that a snapshot is a filter and needs neither grouping nor sorting.
_STATES = f"""
SELECT user_code, item_key, epoch_us(bought_at) AS since, coalesce(epoch_us(again), {NEVER}) AS until, nth::FLOAT AS baskets
FROM lines ORDER BY user_code, since DESC, item_key
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

_WEEKLY = """
SELECT user_code, {group} AS key, epoch_us(start_time) AS starts, count(*) AS lines
FROM lines JOIN weeks USING (week) WHERE {group} <> 0 GROUP BY ALL ORDER BY user_code, key
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


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Users and the groups of a kind they bought of, ascending."""

    users: NDArray[Any]  # (p,) codes
    keys: IntArray  # (p,) of the groups
    lines: csr_array  # (p, w) int64
    since: IntArray  # (p,) start of the first week

    @staticmethod
    def read(db: duckdb.DuckDBPyConnection, weeks: Weeks, group: str) -> _Pairs:
        """Those of a column of the lines."""
        found = db.execute(_WEEKLY.format(group=group)).fetchnumpy()
        users, keys = found["user_code"], found["key"]
        new = np.ones(len(users), np.bool_)
        new[1:] = (users[1:] != users[:-1]) | (keys[1:] != keys[:-1])
        lines = weeks.counts(np.cumsum(new) - 1, found["starts"], found["lines"], int(new.sum()))
        return _Pairs(users[new], keys[new], lines, weeks.first(lines))

    def largest(self, at: int, sizes: NDArray[Any]) -> IntArray:
        """Rows of the pairs known before `at`, by user, of each the largest (p,) size first, equals by key."""
        rows = np.flatnonzero(self.since < at)
        ends = np.flatnonzero(np.diff(self.users[rows], append=-1)) + 1
        ordered = [
            of_user[np.argsort(-sizes[of_user], kind="stable")] for of_user in np.split(rows, ends[:-1])
        ]  # one sort takes four times as long
        return np.concatenate(ordered)


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
    behaviour = _Behaviour(db)
    writer, rows = None, 0
    try:
        for at in snapshots:
            table = behaviour.at(at)
            writer = writer or pq.ParquetWriter(
                out / f"{USER_BEHAVIOUR.name}.parquet", table.schema, compression="zstd", use_dictionary=_REPEATED
            )
            writer.write_table(table)  # a row group per snapshot: a reader of one week skips the others
            rows += len(table)
            done()
    finally:
        if writer:
            writer.close()
    return rows


class _Behaviour:
    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._states = db.execute(_STATES).fetchnumpy()
        self._weeks = Weeks.read(db)
        self._categories, self._types, self._makers = (
            _Pairs.read(db, self._weeks, f"{group}_key") for group in ("category", "type", "maker")
        )
        self._names = dict(db.execute("SELECT DISTINCT category_key, category FROM catalogue").fetchall())

    def at(self, snapshot: datetime) -> pa.Table:
        """A row per user who had bought something."""
        scalars = self._db.execute(_SCALARS, {"at": snapshot, "window": WINDOW.days}).to_arrow_table()
        users, at, states = scalars["user_code"].to_numpy(), us(snapshot), self._states

        current = np.flatnonzero((states["since"] < at) & (states["until"] >= at))
        history = _groups(states["user_code"][current], users, MAX_HISTORY)
        row = current[history.rows]

        counts = self._categories.lines @ self._weeks.before(at)
        largest = self._categories.largest(at, counts)
        affinity = _groups(self._categories.users[largest], users, MAX_CATEGORIES)
        category = largest[affinity.rows]
        keys = self._categories.keys[category]
        shares = counts[category] / scalars["lines"].to_numpy()[affinity.owners]
        texts = [
            _cached_text(tuple(self._names[k] for k in keys[a : min(a + INTEREST_CATEGORIES, b)].tolist()))
            for a, b in pairwise(affinity.offsets.tolist())
        ]
        columns = {
            "distinct_items": pa.array(history.sizes.astype(np.float32)),
            "history_item_keys": history.lists(states["item_key"][row]),
            "history_counts": history.lists(states["baskets"][row]),
            "history_days": history.lists(((at - states["since"][row]) / _DAY_US).astype(np.float32)),
            "category_keys": affinity.lists(keys),
            "category_shares": affinity.lists(shares.astype(np.float32)),
            "interest_text": pa.array(texts, pa.string()),
        }
        faded = self._weeks.fading(at, AFFINITY_HALF_LIFE)
        for name, pairs in (("type", self._types), ("maker", self._makers)):
            affinities = (pairs.lines @ faded) / WHOLE
            largest = pairs.largest(at, affinities)
            kept = _groups(pairs.users[largest], users, MAX_GROUPS)
            columns[f"{name}_keys"] = kept.lists(pairs.keys[largest[kept.rows]])
            columns[f"{name}_affinities"] = kept.lists(affinities[largest[kept.rows]].astype(np.float32))
        columns |= {name: scalars[name] for name in scalars.column_names}
        stamps = pa.array([snapshot] * len(users), pa.timestamp("us", tz="UTC"))
        return pa.table({"user_id": columns["user_id"], "event_timestamp": stamps} | {f.name: columns[f.name] for f in USER_BEHAVIOUR})
