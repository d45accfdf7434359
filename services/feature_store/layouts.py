"""How Feast lays rows out in its SQLite and Redis online stores, read many at a time.

The layouts are documented by Feast (docs/specs/online_store_format.md) and part of what its versions share: rows written by one are read by
the next. Feast's own readers make a message object of every value and a `datetime` of every row, which takes ten times as long as asking
the store. Keys and names of fields are made by Feast and passed in; nothing here imports it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from ranking.types import FloatArray
from services.feature_store.online_file import OnlineFile
from services.feature_store.values import Stored


class Wanted(NamedTuple):
    """Features of one view; none: only its event times."""

    view: str
    features: Sequence[str]


class Found(NamedTuple):
    """What a store has of one view for n entities."""

    columns: Sequence[Sequence[Stored]]  # one per feature, (n,) each
    times: FloatArray  # (n,) seconds since 1970, NaN where there is no row


class Rows(Protocol):
    """The rows of one online store. Used by one thread at a time."""

    def fetch(self, keys: Sequence[bytes], wanted: Sequence[Wanted]) -> list[Found]:
        """Rows of entities, one block per view.

        Args:
            keys: (n,) distinct entity keys as Feast serialises them.
            wanted: of which views which features.
        """
        ...


class SqliteRows:
    """One table per view, with a row (entity_key, feature_name, value, event_ts) for every value."""

    CHUNK = 30_000  # keys in one query; SQLite takes 32,766 parameters

    def __init__(self, path: Path, tables: Mapping[str, str]) -> None:
        """Open the file.

        Args:
            path: of the database.
            tables: view -> its table.

        Raises:
            Unavailable: it is gone.
            sqlite3.Error: it cannot be opened.
        """
        self._tables = tables
        # A connection of our own: Feast's turns every row's time into an object.
        self._file = OnlineFile(path, "ro")

    def fetch(self, keys: Sequence[bytes], wanted: Sequence[Wanted]) -> list[Found]:
        """See `Rows.fetch`."""
        place = {key: i for i, key in enumerate(keys)}
        db = self._file.connection()
        return [self._view(db, keys, place, *one) for one in wanted]

    def _view(self, db: sqlite3.Connection, keys: Sequence[bytes], place: Mapping[bytes, int], view: str, features: Sequence[str]) -> Found:
        columns: dict[str, list[Stored]] = {name: [None] * len(keys) for name in features}
        times = np.full(len(keys), np.nan)
        for at in range(0, len(keys), self.CHUNK):
            some = keys[at : at + self.CHUNK]
            said: dict[bytes, int] = {}
            for key, name, value, said[key] in self._rows(db, view, some, features):
                if name in columns:
                    columns[name][place[key]] = value
            times[[place[key] for key in said]] = _seconds(said.values(), _whole_time)
        return Found(list(columns.values()), times)

    def _rows(
        self, db: sqlite3.Connection, view: str, keys: Sequence[bytes], features: Sequence[str]
    ) -> Iterable[tuple[bytes, str, Stored, int]]:
        table, marks = self._tables[view].replace('"', '""'), ",".join("?" * len(keys))
        kind, last = ("feature_name, value, event_ts", "") if features else ("'', NULL, max(event_ts)", " GROUP BY entity_key")
        query = f'SELECT entity_key, {kind} FROM "{table}" WHERE entity_key IN ({marks}){last}'  # noqa: S608 - a table's name cannot be bound
        return db.execute(query, keys).fetchall()


class RedisRows:
    """One hash per entity, with a field for every value, named by a hash of view and feature, and one per view for its event time."""

    def __init__(self, client: Any, project: str, fields: Mapping[tuple[str, str], bytes], times: Mapping[str, bytes]) -> None:
        """Ask nothing yet.

        Args:
            client: Feast's.
            project: Feast's name of this repository, the end of every key.
            fields: the field of each feature, by view and name.
            times: the field of each view's event time.
        """
        self._client, self._end, self._fields, self._times = client, project.encode(), fields, times

    def fetch(self, keys: Sequence[bytes], wanted: Sequence[Wanted]) -> list[Found]:
        """See `Rows.fetch`."""
        fields = [self._fields[view, name] for view, names in wanted for name in names]
        fields += [self._times[view] for view, _ in wanted]
        with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key + self._end, fields)
            columns = list(zip(*pipe.execute(), strict=True)) or [() for _ in fields]
        found, at = [], 0
        for (_, names), times in zip(wanted, columns[len(fields) - len(wanted) :], strict=True):
            found.append(Found(columns[at : at + len(names)], _seconds(times, _message_time)))
            at += len(names)
        return found


def _seconds(times: Iterable[Any], read: Callable[[Any], float]) -> FloatArray:
    """Event times in seconds, each distinct one read once; NaN for none."""
    times = list(times)
    known = {time: np.nan if time is None else read(time) for time in set(times)}
    return np.array([known[time] for time in times], np.float64)


def _whole_time(seconds: int) -> float:
    """SQLite: Feast takes the clock's digits in UTC for local time, and back; whole seconds are all it keeps."""
    return datetime.fromtimestamp(seconds).replace(tzinfo=UTC).timestamp()  # noqa: DTZ006 - as Feast does


def _message_time(message: bytes) -> float:
    time = Timestamp.FromString(message)
    return time.seconds + time.nanos * 1e-9
