"""Who saw what promoted, and what came of it: the table ``shown`` of `facts`.

An item's impressions in a week are the visitors of the stores that promoted it. How many of a store's visitors had bought the item, or
something of its type by its maker, or of its type, is a product of two sparse matrices, stores by users and users by groups: the pairs of
visitor and promoted item, hundreds of millions, are never made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ranking.features import RELATIONS
from training.tables.duck import THREADS, together
from training.tables.sold import IntArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Only what a store that ever promotes sees can be an impression.
_STORES = """
CREATE TABLE stores AS
SELECT store_id, (row_number() OVER (ORDER BY store_id) - 1)::INTEGER AS store FROM (SELECT DISTINCT store_id FROM promotions)
"""
_VISITS = "SELECT DISTINCT week, store, user_code FROM events JOIN stores USING (store_id) ORDER BY week"
_BOUGHT = """
SELECT DISTINCT week, coalesce(store, -1) AS store, user_code, item_code
FROM events LEFT JOIN stores USING (store_id) WHERE event_type = 'purchase' ORDER BY week
"""
_PROMOTED = "SELECT store, item_code FROM promotions JOIN stores USING (store_id) WHERE week = $week"
_COUNTS = [f"{name}{of}" for name in ("impressions", "purchases") for of in ("", *(f"_{relation}" for relation in RELATIONS))]
_COUNTED = pa.schema([("week", pa.int32()), ("item_code", pa.int32()), *((name, pa.int64()) for name in _COUNTS)])
_SHOWN = "CREATE TABLE shown AS SELECT start_time, counted.* EXCLUDE (week) FROM counted JOIN weeks USING (week)"


def load_shown(db: duckdb.DuckDBPyConnection) -> None:
    """Create the table ``shown``. Reads ``events``, ``promotions``, ``weeks`` and ``catalogue``."""
    db.execute(_STORES)
    weeks = [week for (week,) in db.execute("SELECT week FROM weeks ORDER BY week").fetchall()]
    past = _Past.read(db)
    parts = together(db, *(partial(_count, weeks[part::THREADS], past) for part in range(THREADS)))
    db.register("counted", pa.concat_tables([_COUNTED.empty_table(), *(table for part in parts for table in part)]))
    db.execute(_SHOWN)
    db.unregister("counted")
    db.execute("DROP TABLE stores")


@dataclass(frozen=True, slots=True)
class _Group:
    """What items are bought as."""

    of: IntArray  # (I,) the group of each item, in [0, G)
    since: csr_array  # (U, G) the week in which a user first bought of a group

    def known(self, visitors: csr_array, week: int) -> NDArray[np.int32]:
        """(S, G) how many of the (S, U) visitors of stores had bought of a group before the week."""
        before = self.since.copy()
        before.data = (before.data < week).astype(np.int32)
        counts: NDArray[np.int32] = (visitors @ before).toarray()
        return counts


@dataclass(frozen=True, slots=True)
class _Past:
    """All visits and purchases."""

    visits: dict[str, NDArray[Any]]  # each once a week, by week: week, store, user_code
    bought: dict[str, NDArray[Any]]  # each once a week, by week: week, store or -1, user_code, item_code
    relation: IntArray  # (purchases,) index into `RELATIONS`: what the item had been to the user before the week
    groups: list[_Group]  # in the order of `RELATIONS`, narrow to wide: each group lies within one of the next
    shape: tuple[int, int, int]  # stores, users, items

    @staticmethod
    def read(db: duckdb.DuckDBPyConnection) -> _Past:
        keys = db.execute("SELECT maker_key, type_key FROM catalogue ORDER BY item_code").fetchnumpy()
        visits, bought = db.execute(_VISITS).fetchnumpy(), db.execute(_BOUGHT).fetchnumpy()
        stores, users = (db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in ("stores", "users"))
        item = np.arange(len(keys["type_key"]))
        maker = _wider(keys["maker_key"], item)
        relation, groups = np.full(len(bought["week"]), len(RELATIONS) - 1), []
        for of in (item, maker, _wider(keys["type_key"], maker)):
            since, first = _since(bought["user_code"], of[bought["item_code"]], bought["week"], (users, int(of.max(initial=-1)) + 1))
            relation -= first < bought["week"]
            groups.append(_Group(of, since))
        return _Past(visits, bought, relation, groups, (stores, users, len(item)))

    def count(self, week: int, store: NDArray[Any], item: NDArray[Any]) -> pa.Table:
        """A row per item promoted in a week, of (p,) pairs of store and item."""
        from scipy.sparse import csr_array

        stores, users, items = self.shape
        rows = _of_week(self.visits, week)
        who = self.visits["store"][rows], self.visits["user_code"][rows]
        visitors = csr_array((np.ones(len(who[0]), np.int32), who), (stores, users))
        known = [group.known(visitors, week)[store, group.of[item]] for group in self.groups] + [visitors.sum(axis=1)[store]]
        saw = np.array([np.bincount(item, n, minlength=items) for n in known]).astype(np.int64)  # far below 2^53: exact as float64
        impressions = np.diff(saw, axis=0, prepend=0)  # who knows the wider group, less who knows the narrower

        promoted = np.zeros((stores + 1, items), np.bool_)  # the last row, or -1: stores that never promote
        promoted[store, item] = True
        rows = _of_week(self.bought, week)
        there, what = self.bought["store"][rows], self.bought["item_code"][rows]
        hit = promoted[there, what]
        purchases = np.zeros((len(RELATIONS), items), np.int64)
        np.add.at(purchases, (self.relation[rows][hit], what[hit]), 1)

        shown = np.flatnonzero(promoted.any(axis=0))
        columns = (column for counts in (impressions[:, shown], purchases[:, shown]) for column in (counts.sum(axis=0), *counts))
        return pa.table([np.full(len(shown), week), shown, *columns], _COUNTED)


def _count(weeks: Sequence[int], past: _Past, db: duckdb.DuckDBPyConnection) -> list[pa.Table]:
    return [past.count(week, *db.execute(_PROMOTED, {"week": week}).fetchnumpy().values()) for week in weeks]


def _of_week(rows: dict[str, NDArray[Any]], week: int) -> slice:
    return slice(*np.searchsorted(rows["week"], (week, week + 1)).tolist())


def _wider(keys: IntArray, narrower: IntArray) -> IntArray:
    """(I,) the group of each item by its key; of an item that has none, as 0 says, the narrower one."""
    _, group = np.unique(keys, return_inverse=True)
    return np.unique(np.where(keys != 0, group, len(keys) + narrower), return_inverse=True)[1]


def _since(user: NDArray[Any], group: IntArray, week: NDArray[Any], shape: tuple[int, int]) -> tuple[csr_array, IntArray]:
    """The first week of each user and group among (n,) purchases in order of time: (U, G), and (n,) of each purchase."""
    from scipy.sparse import csr_array

    pairs, first, which = np.unique(user * np.int64(shape[1]) + group, return_index=True, return_inverse=True)
    return csr_array((week[first], np.divmod(pairs, max(shape[1], 1))), shape), week[first][which]
