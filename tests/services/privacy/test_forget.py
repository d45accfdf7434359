"""A forgotten user is in no store's bytes any more, and everybody else is as before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, RepoConfig
from typer.testing import CliRunner

from cli import app
from ranking.errors import Unavailable
from ranking.features import USER_SESSION, Entity
from ranking.layout import Layout
from ranking.privacy import user_digest
from services.feature_store.changes import Changes
from services.feature_store.feast import FeastStore
from services.features.pushed import PushedRows
from services.features.state import HistoryLines, State
from services.feedback.log.sqlite import SqliteLog
from services.feedback.types import Event, EventType, Outcome
from services.privacy.forget import Done, forget, prepared
from services.privacy.forgotten import Forgotten
from tests.services import feast_home
from tests.services.redis_server import RedisServer

NOW = datetime(2026, 1, 10, tzinfo=UTC)
KEY = b"k" * 32
GONE, STAYS = "ann-who-goes-away", "bob-who-stays-here"
FEATURES = {"orders_all": 3.0, "interest_text": "buys ice", "history_item_keys": [1], "history_counts": [1.0], "history_days": [2.0]}


def _purchase(user: str, n: int) -> Event:
    return Event(f"{user[:3]}{n}", EventType.PURCHASE, int(NOW.timestamp() * 1e9) + n, user, f"i{n}")


def _containing(home: Path, text: str) -> list[str]:
    """Files under `home` that have these bytes."""
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file() and text.encode() in p.read_bytes())


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("applied")
    feast_home.apply(home)
    return home


@pytest.fixture
def home(applied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Two users in every store: event log, online store, served log, feature tables."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    layout = Layout(tmp_path)
    shutil.copytree(applied, tmp_path, dirs_exist_ok=True)
    store = FeatureStore(repo_path=str(feast_home.REPO))
    for view in ("user_behaviour", "user_profile"):
        given = FEATURES if view == "user_behaviour" else {"age_code": 1.0}
        feast_home.write(store, view, NOW, dict.fromkeys((GONE, STAYS), given))
    feast_home.write(store, "item_statistics", NOW, {f"i{n}": {"price_28d": float(n)} for n in range(9)})
    log = SqliteLog(layout.events)
    log.append([_purchase(user, n) for n in range(9) for user in (GONE, STAYS)])
    log.close()
    state = State(layout.feature_state)
    item, user = np.tile(np.arange(3), 2), np.repeat(np.arange(2), 3)
    when = np.full(6, int(NOW.timestamp() * 1e6))
    state.begin(HistoryLines((GONE, STAYS), ("i0", "i1", "i2"), user, item, item, when, item, item, item), {}, history="h")
    state.close()
    layout.served.mkdir(parents=True)
    layout.served_key.write_bytes(KEY)
    for name, users in (("1", (GONE, STAYS)), ("2", (GONE,)), ("3", (STAYS,))):
        rows = pa.table({"user": [user_digest(u, KEY) for u in users], "item_id": ["i1"] * len(users)})
        pq.write_table(rows, layout.served / f"{name}.parquet")
    layout.features.mkdir()
    pq.write_table(pa.table({"user_id": [GONE, STAYS], "orders_all": [1.0, 2.0]}), layout.features / "user_behaviour.parquet")
    pq.write_table(pa.table({"user_id": [STAYS, GONE, GONE], "basket": [1, 2, 2]}), layout.history)
    kept = PushedRows(layout.pushed_rows, (), keep_s=3600.0)
    row = {f.name: [None] * 2 for f in USER_SESSION}
    kept.add(USER_SESSION, [GONE, STAYS], row, np.array([1, 2]))
    kept.write(all_of_them=True)
    return layout


def test_every_store_forgets(home: Layout) -> None:
    """`longtail users forget`: bytes of the id and of its digest are in no file, the other user's stay, and it says what it removed."""
    digest = user_digest(GONE, KEY)
    assert {"events.db", "feast/online.db", "feature_state.db", "features/user_behaviour.parquet"} <= set(_containing(home.home, GONE))
    changes = Changes(home.user_changes)
    before = changes.of(GONE)
    result = CliRunner().invoke(app, ["users", "forget", GONE])
    assert changes.of(GONE) != before
    assert result.exit_code == 0, result.output
    assert _containing(home.home, GONE) == []
    assert _containing(home.home, digest) == []
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["removed"] | {"online store": 0} == {
        "event log": 9,
        "feature state": 3,
        "online store": 0,
        "served log": 2,
        "pushed rows": 1,
        "feature tables": 1 + 2,
        "drafts": 0,
    }
    assert told["removed"]["online store"] > 0
    assert (told["users"], told["failed"]) == (1, [])

    assert pq.read_table(home.features / "user_behaviour.parquet")["user_id"].to_pylist() == [STAYS]
    served = [row for path in sorted(home.served.glob("*.parquet")) for row in pq.read_table(path)["user"].to_pylist()]
    assert served == [user_digest(STAYS, KEY)] * 2
    read = FeastStore(feast_home.REPO, home.home).read(Entity.USER, [GONE, STAYS])
    assert np.isnan(read.event_times[:, 0]).all()
    assert read.values["orders_all"][1] == 3.0
    items = FeastStore(feast_home.REPO, home.home).read(Entity.ITEM, [f"i{n}" for n in range(9)])
    assert list(items.values["price_28d"]) == [float(n) for n in range(9)]
    state = State(home.feature_state)
    assert state.code(Entity.USER, GONE) == 0
    assert len(state.bought(Entity.USER, state.code(Entity.USER, STAYS), 2**62).basket) == 3
    state.close()
    log = SqliteLog(home.events)
    assert {row.event.user_id for row in log.read(0, 100)} == {STAYS}
    assert log.append([_purchase(GONE, 1), _purchase(STAYS, 100)]) == [Outcome.FORGOTTEN, Outcome.STORED]
    log.close()

    assert [line.strip(" …") for line in result.stderr.splitlines()] == list(told["removed"])  # as each has its turn
    again = CliRunner().invoke(app, ["users", "forget", GONE])
    assert set(json.loads(again.stdout.splitlines()[-1])["removed"].values()) == {0}
    assert f"Nothing of {GONE} was in any store: forgotten before." in again.stdout


def test_a_stranger_is_told_to_be_one(home: Layout) -> None:
    """Of somebody never seen nothing goes; the answer says so, and that the tombstone stands for good all the same."""
    result = CliRunner().invoke(app, ["users", "forget", "never-heard-of"])
    assert result.exit_code == 0
    said = " ".join(result.stdout.split())
    assert "Nothing of never-heard-of was in any store: never seen." in said
    assert "still have rows" not in said
    assert "A tombstone stands all the same." in said
    assert "tombstones never expire" in said
    assert "never-heard-of" in Forgotten(home.forgotten)


def test_tables_of_ones_own_that_still_know_them_are_named(home: Layout) -> None:
    """They are not ours to change: each file with a row of the user, and no other."""
    folder = home.canonical("own")
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [GONE, STAYS]}), folder / "users.parquet")
    pq.write_table(pa.table({"user_id": [STAYS, None]}), folder / "events.parquet")
    pq.write_table(pa.table({"item_id": ["i1"]}), folder / "items.parquet")
    assert prepared(home, [GONE, "never-heard-of"]) == [folder / "users.parquet"]
    pq.write_table(pa.table({"user_id": ["cid"]}), folder / "reviews.parquet")
    result = CliRunner().invoke(app, ["users", "forget", GONE])
    assert (
        "Nothing of cid was in any store: known from files of your own only." in CliRunner().invoke(app, ["users", "forget", "cid"]).stdout
    )
    said = "".join(result.stdout.split())
    assert f"stillhaverowsofthem:{folder / 'users.parquet'}.Features" in said
    assert pq.read_table(folder / "users.parquet")["user_id"].to_pylist() == [GONE, STAYS]


def test_a_store_that_fails_is_told_and_keeps_no_other(home: Layout) -> None:
    """The event log is down and the served log's key is gone: the other stores forget, and the two are named with the reason."""

    class Down:
        def forget(self, users: Sequence[str]) -> int:
            raise Unavailable("event log: it is down")

    class Online:
        def forget(self, users: Sequence[str]) -> int:
            return len(users)

    home.served_key.unlink()
    done = forget(home, [GONE], {"event log": Down(), "online store": Online()})
    assert done[:2] == [Done("event log", 0, "event log: it is down"), Done("online store", 1)]
    assert "key of the served log is gone" in done[2].failed
    assert done[3:] == [Done("pushed rows", 1), Done("feature tables", 1 + 2), Done("drafts", 0)]
    assert GONE in Forgotten(home.forgotten)


@pytest.mark.parametrize("users", [[], [GONE, ""]])
def test_nobody_cannot_be_forgotten(home: Layout, users: list[str]) -> None:
    """No user, or the empty id that stands for everybody unknown: an error, and nothing is done."""
    log = SqliteLog(home.events)
    with pytest.raises(ValueError, match="user"):
        forget(home, users, {"event log": log, "online store": _Never()})
    assert len(log.read(0, 100)) == 18
    log.close()
    assert not home.forgotten.exists()


class _Never:
    def forget(self, users: Sequence[str]) -> int:
        raise AssertionError("was asked")


@pytest.mark.servers
def test_redis_forgets_too(home: Layout, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same definitions over a real Redis: the user's hash is gone from the server, the others' and the items' are not."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--save", "")
    try:
        config = RepoConfig(
            project="longtail",
            provider="local",
            registry=str(home.feast / "registry.db"),
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{server.port}"},
            entity_key_serialization_version=3,
        )
        feast = FeatureStore(config=config)
        for view, values in (("user_behaviour", FEATURES), ("user_profile", {"age_code": 1.0})):
            feast_home.write(feast, view, NOW, dict.fromkeys((GONE, STAYS), values))
        feast_home.write(feast, "item_statistics", NOW, {"i1": {"price_28d": 2.0}})
        client: Any = feast._get_provider().online_store._get_client(config.online_store)
        before = set(client.keys("*"))
        gone = {key for key in before if GONE.encode() in key}
        assert len(gone) == 1

        class Opened(FeastStore):
            def opened(self) -> Any:
                return feast

        assert Opened(feast_home.REPO, home.home).forget([GONE, "never-heard-of"]) == 1
        assert set(client.keys("*")) == before - gone
    finally:
        server.kill()
