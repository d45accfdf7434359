"""What items sold, as arrays in order of time: what came of it in a span of time is, per item, a slice and a sum of whole numbers.

Reads the tables of `facts`; knows no feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from ranking.behaviour import NOT_KNOWN
from ranking.features import WINDOW

IntArray = NDArray[np.int64]
NEVER = np.iinfo(np.int64).max  # an instant after all others
BEFORE_ALL = -NEVER
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SOLD = f"""
SELECT item_code AS item, epoch_us(bought_at) AS bought_at, coalesce(epoch_us(again), {NEVER}) AS again,
       coalesce(unit_price, {NOT_KNOWN}) AS unit_price, coalesce(off_shelf, {NOT_KNOWN}) AS off_shelf
FROM lines ORDER BY lines.bought_at
"""


def us(instant: datetime | timedelta) -> int:
    """µs since 1970 of an aware instant, or of a span."""
    span = instant if isinstance(instant, timedelta) else instant - _EPOCH
    return span // timedelta(microseconds=1)


def count_items(db: duckdb.DuckDBPyConnection) -> int:
    """Items of the catalogue, whose codes are those below it."""
    row = db.execute("SELECT count(*) FROM catalogue").fetchone()
    assert row is not None
    return int(row[0])


def ratio(numerator: NDArray[Any], denominator: NDArray[Any], otherwise: float = 0.0) -> NDArray[np.float64]:
    """Elementwise; `otherwise` where the denominator is 0."""
    found = np.full(len(numerator), otherwise)
    np.divide(numerator, denominator, out=found, where=denominator != 0)
    return found


@dataclass(frozen=True, slots=True)
class Sold:
    """``n`` purchase lines of ``items`` items, in order of time. Instants are µs since 1970; what is not known is `NOT_KNOWN`."""

    items: int
    item: NDArray[np.int32]  # (n,) code
    bought_at: IntArray  # (n,) ascending
    again: IntArray  # (n,) when the same user next bought the same item, or NEVER
    unit_price: IntArray  # (n,) millionths
    off_shelf: IntArray  # (n,) millionths

    @staticmethod
    def read(db: duckdb.DuckDBPyConnection) -> Sold:
        """All there are."""
        return Sold(count_items(db), **db.execute(_SOLD).fetchnumpy())

    def lines(self, since: int, until: int) -> IntArray:
        """(items,) lines of each item from `since` to before `until`."""
        return np.bincount(self.item[self._between(since, until)], minlength=self.items)

    def buyers(self, since: int, until: int) -> IntArray:
        """(items,) distinct buyers of each item: of each buyer the last line before `until`, whose next one comes later."""
        rows = self._between(since, until)
        return np.bincount(self.item[rows][self.again[rows] >= until], minlength=self.items)

    def mean(self, column: IntArray, since: int, until: int) -> NDArray[np.float64]:
        """(items,) mean of what is known of a column, NaN where nothing is."""
        rows = self._between(since, until)
        known = column[rows] >= 0
        item, sums = self.item[rows][known], np.zeros(self.items, np.int64)
        np.add.at(sums, item, column[rows][known])
        return ratio(sums, np.bincount(item, minlength=self.items), otherwise=np.nan)

    def mean_price(self, at: int) -> NDArray[np.float64]:
        """(items,) mean price paid per unit within the last `WINDOW`, else ever, in millionths; 0 where none is known."""
        recent, ever = (self.mean(self.unit_price, since, at) for since in (at - us(WINDOW), BEFORE_ALL))
        return np.nan_to_num(np.where(np.isnan(recent), ever, recent))

    def first_at(self) -> IntArray:
        """(items,) when each item was first sold, or NEVER."""
        first = np.full(self.items, NEVER)
        np.minimum.at(first, self.item, self.bought_at)
        return first

    def _between(self, since: int, until: int) -> slice:
        return slice(*np.searchsorted(self.bought_at, (since, until)).tolist())
