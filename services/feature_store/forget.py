"""Removal of users from Feast's online store, which has no call for it: by Feast's own keys, from the tables or hashes it keeps.

With `services.feature_store.feast` the only module of `services` that imports feast.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ranking.errors import Unavailable
from ranking.features import Entity
from services.feature_store.feast import JOIN_KEYS, FeastStore

_BUSY_S = 10.0


def forget(store: FeastStore, users: Sequence[str]) -> int:
    """Remove all rows of users; see `services.privacy.forget.Store`.

    Raises:
        Unavailable: the store did not answer, or is of a kind this does not know.
    """
    try:
        opened = store.opened()
        return _removed(opened, _keys(opened, users))
    except Unavailable:
        raise
    except Exception as error:  # feast and every online store's client raise their own; to us they mean one thing
        raise Unavailable(f"feature store: {type(error).__name__}: {error}") from error


def _keys(opened: Any, users: Sequence[str]) -> list[bytes]:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    version = opened.config.entity_key_serialization_version
    name = JOIN_KEYS[Entity.USER]
    return [serialize_entity_key(EntityKey(join_keys=[name], entity_values=[Value(string_val=user)]), version) for user in users]


def _removed(opened: Any, keys: Sequence[bytes]) -> int:
    kind = opened.config.online_store.type
    if kind == "sqlite":
        return _from_sqlite(opened, keys)
    if kind == "redis":
        client = opened._get_provider().online_store._get_client(opened.config.online_store)
        return int(client.delete(*(key + opened.config.project.encode() for key in keys)))  # a hash per entity, with all views
    raise Unavailable(f"feature store: users cannot be removed from an online store of type {kind!r}; known: sqlite, redis")


def _from_sqlite(opened: Any, keys: Sequence[bytes]) -> int:
    path = Path(opened._get_provider().online_store._get_db_path(opened.config))
    if not path.exists():
        return 0
    removed = 0
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        db.execute("PRAGMA secure_delete = ON")
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = {row[1] for row in db.execute(f'PRAGMA table_info("{table}")')}
            if "entity_key" in columns:
                quoted = table.replace('"', '""')
                removed += db.executemany(f'DELETE FROM "{quoted}" WHERE entity_key = ?', [(key,) for key in keys]).rowcount  # noqa: S608
        # Rebalanced pages keep copies of rows that moved on, unknown to `secure_delete`: the file is written anew.
        db.execute("VACUUM")
        deadline = time.monotonic() + _BUSY_S
        while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                raise Unavailable(f"feature store: {path}: rows are removed, but others keep the old file in use; call again")
            time.sleep(0.01)
    finally:
        db.close()
    return removed
