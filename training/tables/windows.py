"""The table of `ITEM_WINDOWS`: buyers, prices and promotions of items in windows before each snapshot.

Reads the tables of `facts`. What follows from purchases is `ranking.behaviour.item_windows`, over everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np

from ranking.aggregates import smoothed_rate
from ranking.behaviour import NOT_KNOWN
from ranking.features import DAY_WINDOWS, ITEM_WINDOWS, PRICE_STEP_PERCENT, SHORT_WINDOW
from training.tables.snapshots import ItemRows, write_items
from training.tables.sold import BEFORE_ALL, IntArray, Sold, ratio, us
from training.tables.weekly import Weeks, mean_rate

# The price of each whole day on which the item sold, when the day was over, and whether it is another one than before.
_DAILY = f"""
SELECT item_code, (day + 1) * 86400000000 AS over_at, price,
       coalesce(abs(price - lag(price) OVER item) * 100 > {PRICE_STEP_PERCENT} * lag(price) OVER item, false) AS changed
FROM (
    SELECT item_code, epoch_us(bought_at) // 86400000000 AS day, quantile_disc(unit_price, 0.5) AS price
    FROM lines WHERE unit_price IS NOT NULL GROUP BY ALL)
WINDOW item AS (PARTITION BY item_code ORDER BY day)
ORDER BY over_at
"""
_DAYS = {window: us(timedelta(days=days)) for window, days in DAY_WINDOWS.items()}


def write_item_windows(
    db: duckdb.DuckDBPyConnection, out: Path, snapshots: Sequence[datetime], done: Callable[[], None] = lambda: None
) -> int:
    """One row per item sold or promoted before the snapshot, per snapshot, using what happened before it only.

    `done` is called after each snapshot.
    """
    return write_items(db, ITEM_WINDOWS, out, snapshots, _windows(db, [us(at) for at in snapshots]), done)


def _windows(db: duckdb.DuckDBPyConnection, snapshots: Sequence[int]) -> Iterator[ItemRows]:
    sold, weeks = Sold.read(db), Weeks.read(db)
    impressions, purchases = weeks.of_items(db, "shown", "impressions", "purchases")
    known_since = np.minimum(sold.first_at(), weeks.first(impressions))
    days = db.execute(_DAILY).fetchnumpy()

    def changes(since: int, until: int) -> IntArray:
        """(I,) changes on days that were over after `since`, and at `until` at the latest."""
        rows = slice(*np.searchsorted(days["over_at"], (since, until), side="right").tolist())
        return np.bincount(days["item_code"][rows][days["changed"][rows]], minlength=sold.items)

    for at in snapshots:
        over = slice(np.searchsorted(days["over_at"], at, side="right"))
        price = np.full(sold.items, NOT_KNOWN, np.int64)
        price[days["item_code"][over]] = days["price"][over]  # the last of an item's days stays
        week, ever = weeks.before(at, SHORT_WINDOW), weeks.before(at)
        yield (
            np.flatnonzero(known_since < at),
            {
                "purchases_1d": sold.lines(at - _DAYS["1d"], at),
                "buyers_1d": sold.buyers(at - _DAYS["1d"], at),
                "buyers_7d": sold.buyers(at - _DAYS["7d"], at),
                "buyers_all": sold.buyers(BEFORE_ALL, at),
                "promo_impressions_7d": impressions @ week,
                "promo_impressions_all": impressions @ ever,
                **{
                    f"promo_rate_{name}": smoothed_rate(taken, seen, mean_rate(taken, seen))
                    for name, taken, seen in (
                        ("7d", purchases @ week, impressions @ week),
                        ("all", purchases @ ever, impressions @ ever),
                    )
                },
                "price_last": np.maximum(price, 0) / 1e6,
                "price_to_mean_28d": ratio(price, np.where(price == NOT_KNOWN, 0, sold.mean_price(at)), otherwise=1.0),
                **{f"price_changes_{window}": changes(at - span, at) for window, span in _DAYS.items()},
                "price_changes_all": changes(BEFORE_ALL, at),
            },
        )
