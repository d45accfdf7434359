"""Removal of entities from Feast's online store, which has no call for it: by Feast's own keys, from the tables or hashes it keeps.

With `services.feature_store.feast` the only module of `services` that imports feast.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ranking.errors import Unavailable

_BUSY_S = 10.0


def removed(store: Any, join_key: str, ids: Sequence[str]) -> int:
    """Remove all rows of some entities. Returns how many values (SQLite) or hashes (Redis) went.

    Args:
        store: Feast's, opened.
        join_key: of the entity.
        ids: of those to be removed.

    Raises:
        Unavailable: the store is of a kind this does not know, or others keep its old file in use.
    """
    keys = _keys(store, join_key, ids)
    kind = store.config.online_store.type
    if kind == "sqlite":
        return _from_sqlite(store, keys)
    if kind == "redis":
        client = store._get_provider().online_store._get_client(store.config.online_store)
        return int(client.delete(*(key + store.config.project.encode() for key in keys)))  # a hash per entity, with all views
    raise Unavailable(f"feature store: users cannot be removed from an online store of type {kind!r}; known: sqlite, redis")


def _keys(store: Any, join_key: str, ids: Sequence[str]) -> list[bytes]:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    version = store.config.entity_key_serialization_version
    return [serialize_entity_key(EntityKey(join_keys=[join_key], entity_values=[Value(string_val=i)]), version) for i in ids]


def _from_sqlite(store: Any, keys: Sequence[bytes]) -> int:
    path = Path(store._get_provider().online_store._get_db_path(store.config))
    if not path.exists():
        return 0
    gone = 0
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        db.execute("PRAGMA secure_delete = ON")
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = {row[1] for row in db.execute(f'PRAGMA table_info("{table}")')}
            if "entity_key" in columns:
                quoted = table.replace('"', '""')
                gone += db.executemany(f'DELETE FROM "{quoted}" WHERE entity_key = ?', [(key,) for key in keys]).rowcount  # noqa: S608
        # Rebalanced pages keep copies of rows that moved on, unknown to `secure_delete`: the file is written anew.
        db.execute("VACUUM")
        deadline = time.monotonic() + _BUSY_S
        while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                raise Unavailable(f"feature store: {path}: rows are removed, but others keep the old file in use; call again")
            time.sleep(0.01)
    finally:
        db.close()
    return gone
