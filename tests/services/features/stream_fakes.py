"""A feature store of rows in a SQLite file, purchases as events, and a stream over both."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ranking.errors import Unavailable
from ranking.features import VIEWS, Entity, View, stable_key
from ranking.layout import Layout
from ranking.types import IntArray
from services.feature_store.items import items_of
from services.feature_store.port import ENTITY_VIEWS, FeatureRows
from services.features.history import History, look
from services.features.metrics import FeatureMetrics
from services.features.rows import Catalogue
from services.features.state import State
from services.features.stream import Store, Stream
from services.feedback.log.event_log import EventLog
from services.feedback.log.sqlite import SqliteLog
from services.feedback.types import Event, EventType
from services.privacy.forgotten import Forgotten
from services.snapshot.snapshot import Snapshot
from services.snapshot.writer import Writer

NOON = 1_760_000_000  # seconds since 1970
HOUR, DAY = 3600, 86400
ITEMS = [f"i{i}" for i in range(30)]


class RowStore:
    """Passes for Feast: rows by view and entity, kept in a file so that a process that is killed leaves what it pushed."""

    def __init__(self, path: Path) -> None:
        self.down = False
        self.changes = 1
        self.refuses: set[str] = set()  # ids whose rows are nonsense
        self.pushes: list[tuple[str, tuple[str, ...]]] = []
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")  # the process is killed, never the machine
        self._db.execute("CREATE TABLE IF NOT EXISTS row (view, id, time, vals, PRIMARY KEY (view, id))")

    def push(self, view: View, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], event_times: IntArray) -> None:
        self._answer()
        assert set(columns) == {f.name for f in view}
        if self.refuses & set(ids):
            raise ValueError(f"{view.name}: orders_all must be float32")
        self.pushes.append((view.name, tuple(ids)))
        for i, key in enumerate(ids):
            self.write(view.name, key, {name: column[i] for name, column in columns.items()}, int(event_times[i]))

    def write(self, view: str, key: str, values: Mapping[str, Any], time_us: int) -> None:
        values = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
        self._db.execute(
            "INSERT INTO row VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET time = ?3, vals = ?4 WHERE time <= ?3",
            (view, key, time_us, pickle.dumps(values)),
        )

    def read(self, entity: Entity, ids: Sequence[str]) -> FeatureRows:
        self._answer()
        views = ENTITY_VIEWS[entity]
        found = [[self.row(view.name, key) for key in ids] for view in views]
        values = {f.name: [row[1].get(f.name) for row in rows] for view, rows in zip(views, found, strict=True) for f in view}
        return FeatureRows(values, np.array([[row[0] / 1e6 if row[1] else np.nan for row in rows] for rows in found]))

    def row(self, view: str, key: str) -> tuple[int, dict[str, Any]]:
        """Event time in µs and values; 0 and nothing where there is no row."""
        found = self._db.execute("SELECT time, vals FROM row WHERE view = ? AND id = ?", (view, key)).fetchone()
        return (found[0], pickle.loads(found[1])) if found else (0, {})

    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Every row's values."""
        return {(view, key): pickle.loads(vals) for view, key, vals in self._db.execute("SELECT view, id, vals FROM row ORDER BY view, id")}

    def ids(self, entity: Entity) -> Sequence[str]:
        return ITEMS

    def revision(self) -> str:
        self._answer()
        return f"change {self.changes}"

    def close(self) -> None:
        self._db.close()

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("feature store: it is down")


def profile(i: int) -> dict[str, Any]:
    """What the catalogue says of item `i<n>`: 3 categories, 5 types, 7 makers, every second private; nothing of promotions but one rate."""
    known = {f.name: f.default for view in VIEWS if view.name == "item_profile" for f in view}
    return known | {
        "category": f"c{i % 3}",
        "category_key": stable_key(f"c{i % 3}"),
        "type_key": i % 5 + 1,
        "maker_key": i % 7 + 1,
        "is_private": float(i % 2),
        "token_ids": [i + 1],
    }


def fill(store: RowStore, at: int = NOON - 7 * DAY) -> None:
    """The catalogue, and what the batch said of its first items."""
    for i, key in enumerate(ITEMS):
        store.write("item_profile", key, profile(i), at * 10**6)
        if i < 10:
            said = {"purchases_all": 5.0, "promo_rate_28d": 0.25, "type_share": 0.5, "popularity_tier": "head"}
            store.write("item_statistics", key, said, at * 10**6)


def bought(event_id: str, user: str, item: str, at: float = NOON, **fields: object) -> Event:
    """A purchase of one piece for 2.50."""
    plain = Event(event_id, EventType.PURCHASE, round(at * 10**9), user, item, quantity=1.0, value_micros=2_500_000)
    return plain._replace(**fields)


class Shop:
    """A home with a store, a log, a snapshot, and a stream over them."""

    def __init__(
        self,
        home: Path,
        *,
        now: float = NOON + HOUR,
        events: EventLog | None = None,
        history: History | None = None,
        through: Store | None = None,
    ) -> None:
        """`through`: where rows are pushed instead of `store`."""
        self.layout = Layout(home)
        self.now = now
        self.store = RowStore(home / "rows.db")
        self.log = events or SqliteLog(self.layout.events)
        self.state = State(self.layout.feature_state)
        self.changed: list[str] = []
        self.forgotten = Forgotten(self.layout.forgotten)
        self.writer = Writer(self.layout.item_snapshot)
        if self.writer.snapshot is None:
            fill(self.store)
            rows = self.store.read(Entity.ITEM, ITEMS)
            features, names = items_of(ITEMS, rows)
            self.writer.build(ITEMS, features, rows.event_times, names, as_of=now)
        self.metrics = FeatureMetrics()
        self.stream = Stream(
            self.log,
            self.state,
            through or self.store,
            self.writer,
            self.catalogue,
            self.changed.append,
            self.forgotten,
            history=history or look(self.layout),
            pushed=lambda *row: None,
            metrics=self.metrics,
            clock=lambda: self.now,
        )

    def catalogue(self) -> Catalogue:
        return Catalogue(lambda ids: self.snapshot.gather(ids)[0], self.snapshot.names)

    @property
    def snapshot(self) -> Snapshot:
        assert self.writer.snapshot is not None
        return self.writer.snapshot

    def record(self, *events: Event) -> None:
        """Append to the log and let the stream do all there is to do."""
        self.log.append(events)
        self.settle()

    def settle(self) -> None:
        while self.stream.tick():
            pass

    def user(self, key: str) -> dict[str, Any]:
        return self.store.row("user_behaviour", key)[1]

    def item(self, key: str) -> dict[str, Any]:
        return self.store.row("item_statistics", key)[1]

    def close(self) -> None:
        self.writer.close()
        self.state.close()
        self.log.close()
        self.store.close()

    def __enter__(self) -> Shop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


PLACE = {"popularity_rank", "popularity_tier"}


def said(store: RowStore) -> dict[tuple[str, str], dict[str, Any]]:
    """Every row's values, but for an item's place among the others: that is as of when it was pushed, and the others go on."""
    return {key: {name: value for name, value in row.items() if name not in PLACE} for key, row in store.rows().items()}
