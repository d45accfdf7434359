"""Feast's online stores behind our adapter: one contract for SQLite and Redis, and what only one of them can get wrong."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from feast import FeatureStore

from ranking.errors import Unavailable
from ranking.features import ITEM_PROFILE, ITEM_STATISTICS, USER_BEHAVIOUR, Entity
from services.feature_store.feast import FeastStore
from services.feature_store.writes import write_redis
from tests.services import feast_home
from tests.services.redis_server import RedisServer
from tests.suites.online_store import DAY, NOW, OnlineStoreSuite, Place, new_id, price, push, states

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def sqlite_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sqlite-home")
    feast_home.apply(home)
    return home


@pytest.fixture(scope="module")
def redis_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RedisServer]]:
    home, server = tmp_path_factory.mktemp("redis-home"), RedisServer(tmp_path_factory.mktemp("redis"), "--save", "")
    feast_home.apply(home, feast_home.redis_environment(server.url))
    yield home, server
    server.kill()


class TestSqlite(OnlineStoreSuite):
    @pytest.fixture
    def place(self, sqlite_home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        monkeypatch.setenv("LONGTAIL_HOME", str(sqlite_home))
        return Place(feast_home.REPO, sqlite_home)

    def test_feasts_own_writer_overwrites_nothing_newer_either(self, place: Place) -> None:
        """Once our adapter has pushed, `feast materialize` and everything else of Feast's leave newer rows alone."""
        store, item, other = place.opened(), new_id(), new_id()
        push(store, ITEM_STATISTICS, {item: {"price_28d": 9.0}}, NOW)
        feast = FeatureStore(repo_path=str(place.repo))
        late = datetime.fromtimestamp((NOW - DAY) / 1e6, UTC)
        feast_home.write(feast, "item_statistics", late, {item: {"price_28d": 1.0}, other: {"price_28d": 1.0}})
        assert (price(store, item), price(store, other)) == (9.0, 1.0)

    def test_a_file_that_took_the_old_ones_place_is_the_one_that_is_used(self, place: Place) -> None:
        """As a restore from a backup does: reads, pushes and forgetting that were connected before meet the new file, which keeps late rows
        out too; and the store is of another revision, so that what was made of the old one is made again."""
        store, item, user = place.opened(), new_id(), new_id()
        file = place.home / "feast/online.db"
        push(store, ITEM_STATISTICS, {item: {"price_28d": 1.0}}, NOW)
        push(store, USER_BEHAVIOUR, {user: {}}, NOW)
        assert (price(store, item), states(store, Entity.USER, [user])[0]) == (1.0, ["defaulted"])
        revision, draft = store.revision(), shutil.copy(file, file.with_name("draft.db"))
        with closing(sqlite3.connect(draft)) as db:
            (table,) = (name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if "item_statistics" in name)
            db.execute(f"DELETE FROM {table}")
            db.execute(f"DROP TRIGGER {table}_newer_stays")
            db.commit()
        Path(draft).replace(file)
        assert np.isnan(price(store, item))
        assert store.revision() != revision
        push(store, ITEM_STATISTICS, {item: {"price_28d": 3.0}}, NOW)
        push(store, ITEM_STATISTICS, {item: {"price_28d": 2.0}}, NOW - DAY)
        assert price(store, item) == price(place.opened(), item) == 3.0
        assert store.forget([user]) > 0
        assert states(store, Entity.USER, [user])[0] == ["missing"]

    def test_a_file_that_is_gone_is_an_outage_by_name(self, place: Place) -> None:
        """Whoever was connected reads and writes it no longer, nobody makes an empty one in its place, and all go on once it is back."""
        store, late, item, user = place.opened(), place.opened(), new_id(), new_id()
        file = place.home / "feast/online.db"
        push(store, ITEM_STATISTICS, {item: {"price_28d": 1.0}}, NOW)
        assert price(store, item) == 1.0
        away = file.rename(file.with_name("away.db"))
        calls: list[Callable[[FeastStore], object]] = [
            lambda of: price(of, item),
            lambda of: push(of, ITEM_STATISTICS, {item: {"price_28d": 2.0}}, NOW + 10**6),
            lambda of: push(of, ITEM_PROFILE, {item: {"title": "t"}}, NOW),
            lambda of: of.revision(),
            lambda of: of.forget([user]),
        ]
        try:
            for call in calls:
                for of in (store, late):
                    with pytest.raises(Unavailable, match=r"^feature store: online store .*online\.db is gone"):
                        call(of)
            assert not file.exists()
        finally:
            away.rename(file)
        for call in calls:
            for of in (store, late):
                call(of)
        assert price(store, item) == 2.0


class TestRedis(OnlineStoreSuite):
    @pytest.fixture
    def place(self, redis_home: tuple[Path, RedisServer], monkeypatch: pytest.MonkeyPatch) -> Place:
        home, server = redis_home
        for name, value in (feast_home.redis_environment(server.url) | {"LONGTAIL_HOME": str(home)}).items():
            monkeypatch.setenv(name, value)
        return Place(feast_home.REPO, home)

    @pytest.mark.parametrize(("theirs", "stays"), [(2.0, 2.0), (0.0, 1.0)])
    def test_a_writer_that_lost_the_race_looks_again(self, redis_home: tuple[Path, RedisServer], theirs: float, stays: float) -> None:
        """Between our look at a row's time and our write somebody wrote: what is newer stays, what is older is overwritten."""
        with redis.Redis.from_url(redis_home[1].url) as client:
            key = new_id().encode()

            def write(amount: float, through: Any = client) -> None:
                write_redis(through, [key], b"_ts:v", [NOW + int(amount) * 10**6], [{b"f": b"%f" % amount}], expire_s=0)

            class Raced:
                """A client whose second pipeline, that of the write, comes after the rival's."""

                pipelines = 0

                def pipeline(self, *, transaction: bool) -> Any:
                    self.pipelines += 1
                    if self.pipelines == 2:
                        write(theirs)
                    return client.pipeline(transaction=transaction)

            write(1.0, Raced())
            assert client.hget(key, "f") == b"%f" % stays

    def test_a_row_may_expire(self, redis_home: tuple[Path, RedisServer]) -> None:
        """Feast's `key_ttl_seconds` holds for what we write; without it rows stay."""
        with redis.Redis.from_url(redis_home[1].url) as client:
            for expire_s, left in ((100, 100), (0, -1)):
                key = new_id().encode()
                write_redis(client, [key], b"_ts:v", [NOW], [{b"f": b"1"}], expire_s=expire_s)
                assert left - 5 <= client.ttl(key) <= left

    def test_a_redis_that_is_away_is_unavailable_and_found_again(self, place: Place, redis_home: tuple[Path, RedisServer]) -> None:
        """Reads and pushes raise Unavailable; the same adapter answers once it is back."""
        server, store = redis_home[1], place.opened()
        push(store, ITEM_STATISTICS, {new_id(): {}}, NOW)
        store.read(Entity.ITEM, ["a"])
        server.kill()
        with pytest.raises(Unavailable, match="feature store"):
            store.read(Entity.ITEM, ["a"])
        with pytest.raises(Unavailable, match="feature store"):
            push(store, ITEM_STATISTICS, {new_id(): {}}, NOW)
        server.start()
        store.read(Entity.ITEM, ["a"])
        push(store, ITEM_STATISTICS, {new_id(): {}}, NOW)
