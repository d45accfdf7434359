"""What the batch leaves for events to go on from: every purchase line up to its watermark. Reads its files, knows nothing of the state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.errors import Unavailable
from ranking.features import LIVE_FEATURES, View
from ranking.layout import Layout
from ranking.types import IntArray
from services.features.purchases import basket_of
from services.features.state import HistoryLines

_EPOCH_MONDAY_US = 4 * 86_400_000_000  # 1970-01-05, where the batch names no weeks
_INSTANT = pa.timestamp("us", tz="UTC")
_STAMP = "event_timestamp"
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

    def lines(self) -> HistoryLines:
        """Every line there is.

        Raises:
            Unavailable: it cannot be read.
        """
        if not self.identity:
            nothing = np.zeros(0, np.int64)
            return HistoryLines((), (), *([nothing] * 7))
        with _readable(self.layout.history) as file:
            table = file.read(columns=["user_id", "item_id", "basket", "bought_at", *_NUMBERS])
        users, user = _told_apart(table["user_id"])
        items, item = _told_apart(table["item_id"])
        orders, order = np.unique(table["basket"].to_numpy(), return_inverse=True)
        pairs, places = np.unique(user * len(orders) + order, return_inverse=True)  # an order's number means something with its user only
        numbers = [basket_of(users[pair // len(orders)], str(orders[pair % len(orders)])) for pair in pairs.tolist()]
        bought_at = table["bought_at"].cast(_INSTANT).cast("int64").to_numpy()
        return HistoryLines(
            users, items, user, item, np.array(numbers, np.int64)[places], bought_at, *(table[name].to_numpy() for name in _NUMBERS)
        )

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


def _told_apart(column: pa.ChunkedArray) -> tuple[list[str], IntArray]:
    """The distinct strings, and where among them each row's is."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


class BatchRows:
    """What the batch's newest table of a view says of items where events do not know better.

    Not read from the online store: there a row that was pushed may have kept the batch's next one out.
    """

    def __init__(self, layout: Layout, view: View, at_us: int) -> None:
        """Read each item's row of the newest instant up to `at_us`; nothing where there is no table.

        Raises:
            Unavailable: it cannot be read.
        """
        self._columns: dict[str, NDArray[np.float32]] = {}
        self._place: dict[str, int] = {}
        path = layout.features / f"{view.name}.parquet"
        if not path.exists():
            return
        with _readable(path) as file:
            stamps = file.read(columns=[_STAMP])[_STAMP].cast(_INSTANT).unique()
        past = [stamp for stamp in stamps.cast("int64").to_pylist() if stamp <= at_us]
        if past:
            newest = pa.scalar(max(past), pa.int64()).cast(_INSTANT)
            names = [f.name for f in view if f.name not in LIVE_FEATURES[view.name]]
            table = pq.read_table(path, columns=["item_id", *names], filters=pc.field(_STAMP) == newest)
            self._columns = {name: table[name].to_numpy() for name in names}
            self._place = {item: i for i, item in enumerate(table["item_id"].to_pylist())}

    def values(self, name: str, ids: Sequence[str], otherwise: Sequence[Any]) -> list[Any]:
        """(n,) values of a feature, of items it has no row of those of `otherwise`."""
        column = self._columns.get(name)
        if column is None:
            return list(otherwise)
        places = [self._place.get(item) for item in ids]
        return [other if at is None else float(column[at]) for at, other in zip(places, otherwise, strict=True)]


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
