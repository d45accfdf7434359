"""Counts by week, and what they come to at a snapshot: a product with one whole number per week, exact in any order of addition.

Reads the tables of `facts`; knows no feature. All counts are int64, `scipy.sparse` keeps them so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from ranking.behaviour import fading, total
from training.tables.sold import NEVER, IntArray, count_items, us

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_WEEK = us(timedelta(days=7))
_CLOCKS = us(timedelta(hours=2))


@dataclass(frozen=True, slots=True)
class Weeks:
    """The weeks there are, and what each counts for at a snapshot. Instants are µs since 1970."""

    starts: IntArray  # (w,) ascending

    @staticmethod
    def read(db: duckdb.DuckDBPyConnection) -> Weeks:
        """Those of the table of weeks."""
        return Weeks(db.execute("SELECT epoch_us(start_time) AS starts FROM weeks ORDER BY starts").fetchnumpy()["starts"])

    def fading(self, at: int, half_life: float) -> IntArray:
        """(w,) what counts of each week before `at`, in parts of `WHOLE`: all of the last one, then half every `half_life` weeks.

        Weeks begin at local midnight, hence the rounding to whole weeks.
        """
        ages = np.maximum(np.rint((at - self.starts) / _WEEK).astype(np.int64) - 1, 0)
        return self.before(at) * np.array([fading(age, half_life) for age in ages.tolist()], np.int64)

    def before(self, at: int, window: timedelta | None = None) -> IntArray:
        """(w,) 1 for the weeks begun before `at`, and not before a `window` of whole weeks ago; 0 for the others.

        Across a change of clocks one of them began an hour more or less than whole weeks ago.
        """
        begun = self.starts < at
        return (begun if window is None else begun & (self.starts >= at - us(window) - _CLOCKS)).astype(np.int64)

    def first(self, counts: csr_array) -> IntArray:
        """(r,) start of the first week of which each row has an entry, a count of 0 too, or NEVER."""
        rows = np.flatnonzero(np.diff(counts.indptr))
        first = np.full(counts.shape[0], NEVER)
        first[rows] = self.starts[np.minimum.reduceat(counts.indices, counts.indptr[rows])]
        return first

    def counts(self, rows: IntArray, starts: IntArray, counts: IntArray, n: int) -> csr_array:
        """(n, w) int64 of (k,) rows, the starts of their weeks, and what was counted of them then."""
        from scipy.sparse import csr_array

        return csr_array((counts.astype(np.int64), (rows, np.searchsorted(self.starts, starts))), (n, len(self.starts)))

    def of_items(self, db: duckdb.DuckDBPyConnection, table: str, *columns: str) -> list[csr_array]:
        """Of each column of a table by item_code and start_time, (items, w) int64."""
        found = db.execute(f"SELECT item_code, epoch_us(start_time) AS starts, {', '.join(columns)} FROM {table}").fetchnumpy()
        items = count_items(db)
        return [self.counts(found["item_code"], found["starts"], found[column], items) for column in columns]


def mean_rate(successes: IntArray, trials: IntArray) -> float:
    """The rate over all items; 0 where nothing was tried."""
    tried = total(trials)
    return float(total(successes)) / float(tried) if tried else 0.0
