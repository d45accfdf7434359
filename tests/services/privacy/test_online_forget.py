"""Users leave Feast's SQLite file to the last byte, and who is not there costs a look."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ranking.errors import Unavailable
from services.feature_store.forget import removed

GONE, STAYS, FEATURES = [f"leaver-{n}" for n in range(3)], [f"stayer-{n:03}" for n in range(200)], 20


def _store(path: Path, views: Sequence[str] = ("users",)) -> Any:
    """What is asked of Feast's store."""
    online = SimpleNamespace(_get_db_path=lambda config: str(path))
    config = SimpleNamespace(online_store=SimpleNamespace(type="sqlite"), entity_key_serialization_version=3)
    return SimpleNamespace(config=config, _get_provider=lambda: SimpleNamespace(online_store=online), list_feature_views=lambda: views)


def _key(user: str) -> bytes:
    from services.feature_store.forget import _keys

    return _keys(_store(Path()), "user_id", [user])[0]


@pytest.fixture(params=["delete", "wal"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two tables as Feast makes them, written in no order, value by value, and pages that somebody freed who does not overwrite them."""
    file = tmp_path / "online.db"
    db = sqlite3.connect(file)
    db.execute(f"PRAGMA journal_mode = {request.param}")
    db.execute("PRAGMA secure_delete = OFF")
    for table in ("users", "items", "freed"):
        db.execute(
            f"CREATE TABLE {table} "
            "(entity_key BLOB, feature_name TEXT, value BLOB, event_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
        )
        db.execute(f"CREATE INDEX {table}_ek ON {table} (entity_key)")
    db.execute("CREATE TRIGGER users_newer_stays BEFORE UPDATE ON users WHEN new.event_ts < old.event_ts BEGIN SELECT RAISE(IGNORE); END")
    rows = [(_key(user), f"f{n}", bytes([n]) * (n * 7)) for user in (*GONE, *STAYS) for n in range(FEATURES)]
    random.Random(0).shuffle(rows)
    db.executemany("INSERT INTO users VALUES (?, ?, ?, 2)", rows)
    db.executemany("INSERT INTO freed VALUES (?, ?, ?, 2)", rows)
    db.execute("INSERT INTO items VALUES (?, 'f', 'v', 2)", (b"item",))
    db.execute("DROP TABLE freed")
    db.commit()
    db.close()
    return file


def _rows(path: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT * FROM users UNION ALL SELECT * FROM items").fetchall()
    db.close()
    return sorted(found)


def _bytes(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_no_byte_of_them_is_left_and_the_others_are_as_they_were(path: Path) -> None:
    """Copies in split pages and in pages freed by others go too; rows, indexes and rules stay; asked again there is nothing to do."""
    before = _rows(path)
    assert GONE[0].encode() in _bytes(path)
    assert removed(_store(path), "user_id", GONE[:2]) == 2 * FEATURES
    after = _bytes(path)
    assert GONE[0].encode() not in after
    assert GONE[1].encode() not in after
    assert removed(_store(path), "user_id", GONE[:2]) == 0
    assert removed(_store(path), "user_id", [GONE[2], "stranger"]) == FEATURES
    assert GONE[2].encode() not in _bytes(path)
    keys = {_key(user) for user in GONE}
    assert _rows(path) == [row for row in before if row[0] not in keys]
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        assert {"users", "users_ek", "users_newer_stays", "items", "items_ek"} <= names
        assert "longtail_blank" not in names
    db.close()


def test_who_is_not_there_costs_nobody_anything(path: Path) -> None:
    """While another process writes, which keeps all other writers out, nobody waits, and the file is as it was."""
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    before = path.read_bytes()
    try:
        assert removed(_store(path), "user_id", ["stranger", "leaver-"]) == 0
    finally:
        writer.execute("ROLLBACK")
        writer.close()
    assert path.read_bytes() == before


def test_where_nothing_was_applied_there_is_nobody(tmp_path: Path) -> None:
    """And no file is made."""
    assert removed(_store(tmp_path / "online.db", []), "user_id", GONE) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_gone_may_come_back_with_them(tmp_path: Path) -> None:
    """It is not said to be done, and no empty one is made."""
    with pytest.raises(Unavailable, match=r"online\.db is gone"):
        removed(_store(tmp_path / "online.db"), "user_id", GONE)
    assert list(tmp_path.iterdir()) == []
