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
from services.feature_store.online_file import connect

_BUSY_S = 10.0
_CACHE_KIB = 256 * 1024  # the demo's tables of users are 60 MB


def removed(store: Any, join_key: str, ids: Sequence[str]) -> int:
    """Remove all rows of some entities. Returns how many values (SQLite) or hashes (Redis) went.

    Args:
        store: Feast's, opened.
        join_key: of the entity.
        ids: of those to be removed.

    Raises:
        Unavailable: the store is of a kind this does not know, its file is gone, or others keep its old file in use.
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
    if not path.exists() and not store.list_feature_views():
        return 0  # nothing was ever applied; a file that is gone may come back, with them in it
    gone = 0
    db = connect(path, "rw", timeout_s=_BUSY_S)
    db.isolation_level = None
    try:
        if tables := [table for table in _tables(db) if any(_holds(db, table, key) for key in keys)]:
            db.execute("PRAGMA secure_delete = ON")  # what is freed is overwritten with zeros
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")  # from the first page on that does not fit, nobody else can read
            db.execute("BEGIN IMMEDIATE")
            gone = sum(_without(db, table, keys) for table in tables)
            _blanked(db)
            db.execute("COMMIT")
        deadline = time.monotonic() + _BUSY_S
        while _ahead(path, keys):
            if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] and time.monotonic() > deadline:
                raise Unavailable(f"feature store: {path}: rows are removed, but others keep the old file in use; call again")
            time.sleep(0.01)
    finally:
        db.close()
    return gone


def _ahead(path: Path, keys: Sequence[bytes]) -> bool:
    """Whether the keys are in what was written ahead of the file, where it has such a log: an earlier call may have left them there."""
    log = path.with_name(f"{path.name}-wal")
    written = log.read_bytes() if log.exists() else b""
    return any(key in written for key in keys)


def _tables(db: sqlite3.Connection) -> list[str]:
    """Quoted names of the tables of views."""
    names = [name.replace('"', '""') for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [f'"{name}"' for name in names if "entity_key" in {row[1] for row in db.execute(f'PRAGMA table_info("{name}")')}]


def _holds(db: sqlite3.Connection, table: str, key: bytes) -> bool:
    return bool(db.execute(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE entity_key = ?)", (key,)).fetchone()[0])  # noqa: S608


def _without(db: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> int:
    """Delete the keys' rows and write the table's others anew: pages that were split keep copies of rows that moved on, unknown to
    `secure_delete`. The whole file (`VACUUM`) is mostly items, and nobody could read it for minutes.
    """
    gone = db.executemany(f"DELETE FROM {table} WHERE entity_key = ?", [(key,) for key in keys]).rowcount  # noqa: S608
    db.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}")  # noqa: S608
    db.execute(f"DELETE FROM {table}")  # noqa: S608
    db.execute(f"INSERT INTO {table} SELECT * FROM kept")  # noqa: S608
    db.execute("DROP TABLE kept")
    return gone


def _blanked(db: sqlite3.Connection) -> None:
    """Overwrite the pages that others freed before, who do not know `secure_delete`: take them all, and free them again."""
    free, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size"))
    db.execute("CREATE TABLE longtail_blank (bytes BLOB)")
    db.executemany("INSERT INTO longtail_blank VALUES (zeroblob(?))", [(size,)] * free)  # at least a page each
    db.execute("DROP TABLE longtail_blank")
