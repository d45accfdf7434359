"""What purchases say of a user or item is the same from SQL over everybody as from the purchases themselves: every bit."""

from __future__ import annotations

import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranking.behaviour import Lines, item_statistics, item_windows, popularity, user_behaviour
from ranking.features import ITEM_STATISTICS, ITEM_WINDOWS, LIVE_FEATURES, USER_BEHAVIOUR
from tests.training.tables.histories import History, read_history
from tests.training.tables.shops import STARTS, Shop, shops, write_shop
from tests.training.tables.slices import Slice
from training.tables import facts
from training.tables.duck import connect
from training.tables.history import write_history
from training.tables.items import write_item_profile, write_item_statistics
from training.tables.tokens import Tokens
from training.tables.users import write_user_behaviour
from training.tables.windows import write_item_windows

TOKENS = Tokens()
NOBODY = Lines(*(np.zeros(0, dtype) for dtype in [np.int64] * 4 + [np.bool_] + [np.int64] * 6))  # of an item that was never bought


def _us(instant: datetime) -> int:
    return int(np.datetime64(instant.replace(tzinfo=None), "us").astype(np.int64))


def _every(path: Path, n: int) -> list[dict[str, Any]]:
    table = pq.read_table(path)
    return list(table.take(np.arange(0, len(table), n)).to_pylist())


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Arrays as the lists Parquet gives."""
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _check_users(rows: list[dict[str, Any]], history: History, week_starts: np.ndarray) -> None:
    for row in rows:
        at = _us(row["event_timestamp"])
        found = user_behaviour(history.of_user[row["user_id"]], at, week_starts=week_starts, categories=history.categories)
        assert _plain(found) == {name: row[name] for name in LIVE_FEATURES[USER_BEHAVIOUR.name]}, (row["user_id"], row["event_timestamp"])


def _check_items(rows: list[dict[str, Any]], history: History) -> None:
    sold: dict[int, np.ndarray] = {}
    for row in rows:
        item, at = row["item_id"], _us(row["event_timestamp"])
        own = history.of_item.get(item, NOBODY)
        found = item_statistics(own, at, first_shown_us=history.first_shown.get(item))
        place = popularity(int(found["purchases_all"]), sold.setdefault(at, history.purchases(at)))
        assert found | place == {name: row[name] for name in LIVE_FEATURES[ITEM_STATISTICS.name]}, (item, row["event_timestamp"])


def _check_windows(rows: list[dict[str, Any]], history: History) -> None:
    for row in rows:
        found = item_windows(history.of_item.get(row["item_id"], NOBODY), _us(row["event_timestamp"]))
        assert found == {name: row[name] for name in LIVE_FEATURES[ITEM_WINDOWS.name]}, (row["item_id"], row["event_timestamp"])


def _check_any(shop: Shop, snapshots: list[datetime]) -> None:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        write_shop(shop, out)
        with connect(out) as db:
            facts.load(db, out)
            write_item_profile(db, out, STARTS[0], TOKENS)
            write_user_behaviour(db, out, snapshots)
            write_item_statistics(db, out, snapshots)
            write_item_windows(db, out, snapshots)
            assert write_history(db, out, STARTS[-1])["history"] == len(shop.lines)
        history = read_history(out)
        tables = ("user_behaviour", "item_statistics", "item_windows")
        users, items, windows = (pq.read_table(out / f"{view}.parquet").to_pylist() for view in tables)
    assert len(users) == sum(len({x.user for x in shop.lines if x.at < at}) for at in snapshots)
    _check_users(users, history, np.array([_us(at) for at in STARTS]))
    _check_items(items, history)
    assert [row["item_id"] for row in windows] == [row["item_id"] for row in items]
    _check_windows(windows, history)


_SNAPSHOTS = st.lists(st.sampled_from(STARTS[1:]), min_size=1, max_size=3, unique=True).map(sorted)
_SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])


@settings(_SLOW, max_examples=8)
@given(shops(), _SNAPSHOTS)
def test_any_purchases_say_the_same_either_way(shop: Shop, snapshots: list[datetime]) -> None:
    """At the starts of weeks, also across a change of clocks, rows of the tables equal what the history they leave says."""
    _check_any(shop, snapshots)


@pytest.mark.exhaustive
@settings(_SLOW, max_examples=200)
@given(shops(), _SNAPSHOTS)
def test_very_many_purchases_say_the_same_either_way(shop: Shop, snapshots: list[datetime]) -> None:
    """The same, looked for longer."""
    _check_any(shop, snapshots)


def test_real_purchases_say_the_same_either_way(small: Slice, week_starts: np.ndarray) -> None:
    """Every third user, and every 97th item, at every snapshot of the real slice."""
    history = read_history(small.layout.features)
    chosen = (("user_behaviour", 3), ("item_statistics", 97), ("item_windows", 97))
    users, items, windows = (_every(small.layout.features / f"{view}.parquet", n) for view, n in chosen)
    assert max(len(row["history_item_keys"]) for row in users) > 100
    assert {row["popularity_tier"] for row in items} == {"head", "tail", "new"}
    _check_users(users, history, week_starts)
    _check_items(items, history)
    assert max(row["price_changes_all"] for row in windows) > 2
    assert any(
        row["buyers_all"] > row["buyers_7d"] > row["buyers_1d"] > 0 for row in _every(small.layout.features / "item_windows.parquet", 1)
    )
    _check_windows(windows, history)


@pytest.fixture
def week_starts(small: Slice) -> np.ndarray:
    """As the tables' own meta file names them."""
    return np.array([_us(datetime.fromisoformat(x)) for x in json.loads(small.layout.feature_meta.read_text())["week_starts"]])
