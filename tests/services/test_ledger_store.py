"""The ledger's stores: one contract for the fake, SQLite and Redis, and what only real ones can get wrong."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ranking.errors import Unavailable
from services.gateway.ledger.redis import RedisStore
from services.gateway.ledger.sqlite import SqliteStore
from services.gateway.ledger.store import EXPOSURE, Entry, Key, LedgerStore
from tests.services.ledger_fakes import Clock, Place
from tests.services.redis_server import RedisServer
from tests.suites.ledger_store import CONTROLLER, TAIL, LedgerStoreSuite, Opener, exposure

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened() -> Iterator[list[LedgerStore]]:
    stores: list[LedgerStore] = []
    yield stores
    for store in stores:
        store.close()


def opening(make: Callable[[], LedgerStore], opened: list[LedgerStore]) -> Opener:
    def one() -> LedgerStore:
        opened.append(make())
        return opened[-1]

    return one


class TestFake(LedgerStoreSuite):
    @pytest.fixture
    def opener(self, clock: Clock) -> Opener:
        return Place(clock)


class TestSqlite(LedgerStoreSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path, clock: Clock, opened: list[LedgerStore]) -> Opener:
        return opening(lambda: SqliteStore(tmp_path / "state" / "exposure.db", busy_s=30.0, clock=clock), opened)


@pytest.mark.servers
class TestRedis(LedgerStoreSuite):
    @pytest.fixture
    def opener(self, redis_url: str, clock: Clock, opened: list[LedgerStore]) -> Opener:
        return opening(lambda: RedisStore(redis_url, retry_s=30.0, clock=clock), opened)

    def test_without_a_clock_redis_tells_the_time(self, redis_url: str) -> None:
        """Ages are measured on one clock, whatever the replicas' say: a row is as old as Redis' own clock says, here next to nothing."""
        store = RedisStore(redis_url)
        store.add("r", 1, [exposure(TAIL, 0.5, 0.25)])
        assert 0.0 <= store.changes(0).rows["exposure", TAIL].age_s < 60.0
        store.close()

    def test_state_outlives_redis(self, redis_server: RedisServer, redis_url: str) -> None:
        """While Redis is gone the store is unavailable; restarted, it has what it acknowledged, and a repeated batch counts once."""
        store = RedisStore(redis_url)
        store.add("r", 1, [exposure(TAIL, 0.5, 0.25)])
        redis_server.kill()
        with pytest.raises(Unavailable, match="ledger: Redis: "):
            store.add("r", 2, [exposure(TAIL, 0.5, 0.25)])
        with pytest.raises(Unavailable, match="ledger: Redis: "):
            store.changes(0)
        redis_server.start()
        for _ in range(2):
            store.add("r", 2, [exposure(TAIL, 0.5, 0.25)])
        assert store.changes(0).rows["exposure", TAIL].state.lists == 2.0
        store.close()

    def test_a_damaged_account_is_named(self, redis_url: str) -> None:
        """What cannot be read is quoted, and is no crash."""
        store = RedisStore(redis_url)
        store.add("r", 1, [exposure(TAIL, 0.5, 0.25)])
        with redis.Redis.from_url(redis_url) as client:
            for name in client.hkeys("longtail:ledger:1:states"):
                client.hset("longtail:ledger:1:states", name, "gone")
        with pytest.raises(Unavailable, match="holds no exposure account but b'gone'"):
            store.changes(0)
        store.close()


def writers(where: str, count: int, batches: int) -> list[subprocess.Popen[str]]:
    """Processes that have begun to write, all at once."""
    command = [sys.executable, "-m", "tests.suites.ledger_writer", where]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*command, f"p{i}", str(batches)], cwd=ROOT, env={"PYTHONPATH": "."}, **pipes) for i in range(count)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    return running


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.servers)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A real store's address."""
    return str(tmp_path / "exposure.db") if request.param == "sqlite" else request.getfixturevalue("redis_url")


def opened_at(where: str) -> LedgerStore:
    return RedisStore(where) if where.startswith("redis:") else SqliteStore(Path(where))


def test_processes_at_once_lose_nothing(where: str) -> None:
    """Two processes that write at once: every list of each is counted."""
    running = writers(where, 2, 200)
    for process in running:
        process.communicate()
        assert process.returncode == 0
    store = opened_at(where)
    state = store.changes(0).rows["exposure", TAIL].state
    store.close()
    assert (state.lists, state.target, state.got) == (400.0, 400 * 0.5, 400 * 0.25)


def test_a_killed_writer_leaves_whole_batches(where: str) -> None:
    """After `kill -9` everything reported done is there, at most one batch more, and others write on."""
    (process,) = writers(where, 1, 100_000)
    assert process.stdout is not None
    done = [process.stdout.readline() for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    done += process.stdout.read().splitlines()
    process.wait()
    process.stdout.close()
    finished = max(int(line) for line in done if line.strip())
    store = opened_at(where)
    lists = store.changes(0).rows["exposure", TAIL].state.lists
    assert lists in (finished, finished + 1)
    store.add("p0", int(lists), [exposure(TAIL, 0.5, 0.25)])  # what it may not have known to be done
    assert store.changes(0).rows["exposure", TAIL].state.lists == lists
    store.add("other", 1, [exposure(TAIL, 0.5, 0.25)])
    assert store.changes(0).rows["exposure", TAIL].state.lists == lists + 1
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """The message has the path and what to do."""
    path = tmp_path / "exposure.db"
    path.write_bytes(b"not a database" * 100)
    store = SqliteStore(path)
    for call in (lambda: store.changes(0), lambda: store.add("r", 1, [exposure(TAIL, 0.5, 0.25)])):
        with pytest.raises(Unavailable, match=r"exposure\.db: is damaged .*move it away"):
            call()


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """A layout this gateway does not know is not written to."""
    db = sqlite3.connect(tmp_path / "exposure.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unavailable, match="is of version 99, this program reads 1"):
        SqliteStore(tmp_path / "exposure.db").changes(0)


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """A wrong path is reported like any store that is down."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="ledger: "):
        SqliteStore(tmp_path / "file" / "exposure.db").changes(0)


def test_a_locked_file_is_unavailable_and_then_works(tmp_path: Path) -> None:
    """A writer that holds the lock too long is waited for `busy_s`, then reported; the batch goes in later."""
    store = SqliteStore(tmp_path / "exposure.db", busy_s=0.05)
    store.add("r", 1, [exposure(TAIL, 0.5, 0.25)])
    other = sqlite3.connect(tmp_path / "exposure.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        store.add("r", 2, [exposure(TAIL, 0.5, 0.25)])
    other.close()
    store.add("r", 2, [exposure(TAIL, 0.5, 0.25)])
    assert store.changes(0).rows["exposure", TAIL].state.lists == 2.0
    store.close()


def test_a_removed_file_is_made_anew(tmp_path: Path) -> None:
    """The state directory may be deleted under a running gateway: the store then counts in a new file, not in one nobody else sees."""
    path = tmp_path / "exposure.db"
    store = SqliteStore(path)
    store.add("r", 1, [exposure(TAIL, 0.5, 0.25)])
    for file in tmp_path.iterdir():
        file.unlink()
    store.add("r", 2, [exposure(TAIL, 0.5, 0.25)])
    other = SqliteStore(path)
    assert other.changes(0).rows["exposure", TAIL].state.lists == 1.0
    store.close()
    other.close()


def test_a_silent_replica_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    """Its number of batches is not kept for ever."""
    store = SqliteStore(tmp_path / "exposure.db", clock=clock)
    store.add("gone", 1, [exposure(TAIL, 0.5, 0.25)])
    clock.now += 8 * 86_400.0
    store.add("here", 1, [exposure(TAIL, 0.5, 0.25)])
    store.close()
    db = sqlite3.connect(tmp_path / "exposure.db")
    assert db.execute("SELECT id FROM replica").fetchall() == [("here",)]
    db.close()


def test_a_state_survives_fields_that_come_and_go() -> None:
    """A state written with a field more is read without it, one with a field less takes its default."""
    account = EXPOSURE.decode('{"lists": 3.0, "got": 1.5, "invented_later": 7.0}')
    assert (account.lists, account.got, account.debt) == (3.0, 1.5, EXPOSURE.zero.debt)
    with pytest.raises(Unavailable, match="holds no exposure state"):
        EXPOSURE.decode("[1, 2]")


def test_a_number_that_is_not_finite_is_not_stored(tmp_path: Path) -> None:
    """An account that can never be settled again is worse than a batch refused."""
    store = SqliteStore(tmp_path / "exposure.db")
    with pytest.raises(ValueError, match="JSON"):
        store.add("r", 1, [exposure(TAIL, float("inf"), 0.0)])
    assert store.changes(0).rows == {}
    store.close()


def test_sixty_keys_fit_in_a_batch(where: str) -> None:
    """A batch of many accounts is one revision."""
    store = opened_at(where)
    keys = [Key("ads", "default", "seller", str(i)) for i in range(60)]
    store.add("r", 1, [Entry(EXPOSURE, key, exposure(key, 0.5, 0.25).delta, CONTROLLER) for key in keys])
    assert set(store.changes(0).rows) == {("exposure", key) for key in keys}
    assert store.changes(0).revision == 1
    store.close()
