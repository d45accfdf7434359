"""What the batch leaves for events to go on from: every purchase line up to its watermark. Reads its files, knows nothing of the state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ranking.errors import Unavailable
from ranking.layout import Layout
from ranking.types import IntArray
from services.features.purchases import basket_of
from services.features.state import HistoryLine

_EPOCH_MONDAY_US = 4 * 86_400_000_000  # 1970-01-05, where the batch names no weeks
_INSTANT = pa.timestamp("us", tz="UTC")
_NUMBERS = ("value", "unit_price", "off_shelf")


@dataclass(frozen=True, slots=True)
class History:
    """One run of the batch.

    Attributes:
        identity: another run has another one; empty: there was none yet.
        complete_before: every purchase before this instant is in it, µs since 1970.
        week_starts: (w,) ascending, µs since 1970.
        layout: where its files are.
    """

    identity: str
    complete_before: int
    week_starts: IntArray
    layout: Layout

    def lines(self) -> Iterator[HistoryLine]:
        """Every line there is, read a row group at a time.

        Raises:
            Unavailable: it cannot be read.
        """
        if not self.identity:
            return
        baskets: dict[tuple[str, int], int] = {}
        with _readable(self.layout.history) as file:
            for part in file.iter_batches(columns=["user_id", "item_id", "basket", "bought_at", *_NUMBERS]):
                users, items, orders = (part[name].to_pylist() for name in ("user_id", "item_id", "basket"))
                bought_at = part["bought_at"].cast(_INSTANT).cast("int64").to_pylist()
                values, prices, offs = (part[name].to_pylist() for name in _NUMBERS)
                for user, item, order, at, value, price, off in zip(users, items, orders, bought_at, values, prices, offs, strict=True):
                    basket = baskets.get((user, order))
                    if basket is None:
                        basket = baskets[user, order] = basket_of(user, str(order))
                    yield user, item, basket, at, value, price, off

    def first_shown(self) -> dict[str, int]:
        """Item id -> instant it was first promoted, µs since 1970.

        Raises:
            Unavailable: it cannot be read.
        """
        if not self.identity:
            return {}
        with _readable(self.layout.first_shown) as file:
            table = file.read(columns=["item_id", "first_shown"])
        at = table["first_shown"].cast(_INSTANT).cast("int64").to_pylist()
        return dict(zip(table["item_id"].to_pylist(), at, strict=True))


def look(layout: Layout) -> History:
    """The run whose tables are there now; one without lines where there is none.

    Raises:
        Unavailable: there are tables, and not what events need to go on from.
    """
    try:
        text, when = layout.feature_meta.read_text(), layout.feature_meta.stat().st_mtime_ns
    except FileNotFoundError:
        return History("", 0, np.array([_EPOCH_MONDAY_US]), layout)
    try:
        meta = json.loads(text)
        watermark, starts = meta["watermark"], [_micros(start) for start in meta["week_starts"]]
        complete_before = _micros(watermark)
    except (KeyError, TypeError, ValueError) as wrong:
        what = f"does not say up to when the tables are complete ({wrong!r})"
        raise Unavailable(f"{layout.feature_meta}: {what}: compute them again") from None
    return History(f"{watermark} {when}", complete_before, np.array(starts, np.int64), layout)


def _micros(instant: str) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1e6)


def _readable(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as wrong:
        raise Unavailable(f"{path}: cannot be read ({wrong}): compute the feature tables again") from None
