"""What keeps an older row from overwriting a newer one in Feast's online stores, whoever writes and however many do at once.

Feast's SQLite store overwrites whatever is there, and its Redis store asks for the time of what is there before it writes, so that two
writers at once may both find nothing newer. SQLite is given a rule of its own that holds for Feast's commands too; rows for Redis are
written here, each in one step with the look at its time. Nothing here imports Feast.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

# KEYS: the hash. ARGV: the view's time field, what it held when it was looked at (empty: nothing), seconds to live (0: for ever), and
# fields with their values. Answers with what the field holds instead, or nothing once it has written.
_UNLESS_CHANGED = """
local there = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if there ~= ARGV[2] then return there end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return false
"""
_NS = 10**9


def guard_sqlite(db: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Have SQLite itself leave out values older than those that are there; equally old ones are replaced.

    It holds from then on for every process that writes to the file, `feast materialize` too. Feast keeps whole seconds there, so that of
    two rows of the same second the one written last stays.

    Args:
        db: the database, without a transaction.
        tables: of the views.

    Raises:
        sqlite3.Error: it is no database, or lacks a table.
    """
    for table in tables:
        name = table.replace('"', '""')
        db.execute(
            f'CREATE TRIGGER IF NOT EXISTS "{name}_newer_stays" BEFORE UPDATE ON "{name}" WHEN new.event_ts < old.event_ts '
            "BEGIN SELECT RAISE(IGNORE); END"
        )
    db.commit()


def write_redis(
    client: Any, keys: Sequence[bytes], time_field: bytes, times_us: Sequence[int], rows: Sequence[Mapping[bytes, bytes]], *, expire_s: int
) -> None:
    """Write rows into Feast's hashes, leaving out those older than what is there.

    Args:
        client: Feast's.
        keys: (n,) hashes, each once.
        time_field: of the view.
        times_us: (n,) event times in µs since 1970.
        rows: (n,) fields with their values.
        expire_s: seconds after which a hash goes; 0: never.
    """
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hget(key, time_field)
        there = [time or b"" for time in pipe.execute()]
    left = list(range(len(keys)))
    while left := [i for i in left if _nanos(there[i]) <= times_us[i] * 1000]:
        with client.pipeline(transaction=False) as pipe:
            for i in left:
                stamp = Timestamp(seconds=times_us[i] // 10**6, nanos=times_us[i] % 10**6 * 1000).SerializeToString()
                values = [part for pair in {time_field: stamp, **rows[i]}.items() for part in pair]
                pipe.eval(_UNLESS_CHANGED, 1, keys[i], time_field, there[i], expire_s, *values)
            said = pipe.execute()
        left, changed = [i for i, now in zip(left, said, strict=True) if now is not None], [now for now in said if now is not None]
        for i, now in zip(left, changed, strict=True):  # somebody else wrote meanwhile
            there[i] = now


def _nanos(message: bytes) -> int:
    time = Timestamp.FromString(message)
    return int(time.seconds) * _NS + int(time.nanos)
