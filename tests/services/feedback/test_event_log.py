"""The event log's stores: one contract for the fake, SQLite and Redis, and what only real ones can get wrong."""

from __future__ import annotations

import json
import logging
import random
import signal
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranking.errors import Unavailable
from ranking.privacy import tombstone
from services.feedback.log.event_log import EventLog, Unreadable
from services.feedback.log.redis import RedisLog
from services.feedback.log.sqlite import SqliteLog
from services.feedback.types import Event, Outcome
from tests.services.feedback.fakes import EVENTS, Place, event
from tests.services.redis_server import RedisServer
from tests.suites.event_log import EventLogSuite, Opener, everything


@pytest.fixture
def opened() -> Iterator[list[EventLog]]:
    logs: list[EventLog] = []
    yield logs
    for log in logs:
        log.close()


def opening(make: Callable[[], EventLog], opened: list[EventLog]) -> Opener:
    def one() -> EventLog:
        opened.append(make())
        return opened[-1]

    return one


class TestFake(EventLogSuite):
    @pytest.fixture
    def opener(self) -> Opener:
        return Place()


class TestSqlite(EventLogSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path, opened: list[EventLog]) -> Opener:
        return opening(lambda: SqliteLog(tmp_path / "state" / "events.db", busy_s=30.0), opened)


@pytest.mark.servers
class TestRedis(EventLogSuite):
    @pytest.fixture
    def opener(self, redis_url: str, opened: list[EventLog]) -> Opener:
        return opening(lambda: RedisLog(redis_url, timeout_s=30.0), opened)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.servers)])
def log_and_files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[EventLog, Path]]:
    """A real log and the directory in which its store keeps everything."""
    if request.param == "sqlite":
        log: EventLog = SqliteLog(tmp_path / "events.db", busy_s=30.0)
        where = tmp_path
    else:
        log = RedisLog(request.getfixturevalue("redis_url"), timeout_s=30.0)
        where = request.getfixturevalue("redis_server").directory
    yield log, where
    log.close()


@pytest.fixture(params=["fake", "sqlite", pytest.param("redis", marks=pytest.mark.servers)])
def any_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    """One of each kind."""
    if request.param == "fake":
        log: EventLog = Place()()
    elif request.param == "sqlite":
        log = SqliteLog(tmp_path / "events.db", busy_s=30.0)
    else:
        log = RedisLog(request.getfixturevalue("redis_url"), timeout_s=30.0)
    yield log
    log.close()


def renamed(events: list[Event]) -> list[Event]:
    """The same events under ids and users nobody has had."""
    nonce = uuid.uuid4().hex
    return [one._replace(event_id=nonce + one.event_id, user_id=one.user_id and nonce + one.user_id) for one in events]


# One log for all examples: every example takes ids of its own and reads from where it began.
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), events=st.lists(EVENTS, min_size=1, max_size=8, unique_by=lambda e: e.event_id))
def test_however_events_come_the_same_are_kept(any_log: EventLog, data: st.DataObject, events: list[Event]) -> None:
    """Any batches in which every event comes at least once, in any order and however often, leave each of them once."""
    start = max((row.offset for row in any_log.read(0, 10**6)), default=0)
    events = renamed(events)
    again = data.draw(st.lists(st.sampled_from(events), max_size=8))
    sent = data.draw(st.permutations(events + again))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=3)))
    outcomes = [o for low, high in zip([0, *cuts], [*cuts, len(sent)], strict=True) for o in any_log.append(sent[low:high])]
    assert sorted(everything(any_log, start), key=repr) == sorted(events, key=repr)
    assert outcomes.count(Outcome.STORED) == len(events)
    assert outcomes.count(Outcome.DUPLICATE) == len(again)


def holds(directory: Path, word: str) -> bool:
    """Whether any file of the directory has the word's bytes."""
    return any(word.encode() in file.read_bytes() for file in directory.rglob("*") if file.is_file())


def test_nothing_of_a_forgotten_user_is_left_in_the_files(log_and_files: tuple[EventLog, Path]) -> None:
    """After many appends, a snapshot, and users forgotten at several times, no byte of theirs is found; the others' are.

    Ids that begin at random make SQLite move index entries between pages, which leaves copies behind that deleting does not erase.
    """
    log, where = log_and_files
    rng = random.Random(0)
    users = [f"secret-user-{i:04d}" for i in range(40)]
    for batch in range(20):
        log.append([event(f"{rng.getrandbits(32):x}-{user}", user, query="q" * rng.randrange(50)) for user in rng.choices(users, k=200)])
        if batch % 4 == 3:
            gone, users = users[: len(users) // 4], users[len(users) // 4 :]
            if isinstance(log, RedisLog):
                log._redis.save()  # as the server does on its own now and then
            assert all(holds(where, user) for user in gone)
            log.forget(gone)
            assert not [user for user in gone if holds(where, user)]
            assert set(users) == {one.user_id for one in everything(log)}


def damage(log: EventLog, where: Path, event_id: str, field: str, value: object) -> None:
    """Write another value into one field of an event, as a newer program or a hand may."""
    if isinstance(log, RedisLog):
        with redis.Redis.from_url(_url(log)) as client:
            offset = client.hget("{longtail:events:1}:ids", event_id)
            content = json.loads(client.hget("{longtail:events:1}:contents", offset))
            content[Event._fields.index(field)] = value
            client.hset("{longtail:events:1}:contents", offset, json.dumps(content))
        return
    with closing(sqlite3.connect(where / "events.db")) as db:
        db.execute(f"UPDATE event SET {field} = ? WHERE event_id = ?", (value, event_id))
        db.commit()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("type", "bogus", "type: 'bogus' is not known here; known: impression, click, add_to_cart, purchase, rating, dislike"),
        ("surface", "moon", "surface: 'moon' is not known here; known: search, ads"),
        ("event_time_ns", "not a time", f"event_time_ns: must be a whole number from 0 to {2**63 - 1}, is 'not a time'"),
        ("event_time_ns", -1, f"event_time_ns: must be a whole number from 0 to {2**63 - 1}, is -1"),
        ("position", 1.5, f"position: must be a whole number from 0 to {2**63 - 1}, is 1.5"),
        ("quantity", "abc", "quantity: must be a number from 0 to 1000000000000, is 'abc'"),
        ("quantity", float("inf"), "quantity: must be a number from 0 to 1000000000000, is inf"),
        ("rating", 1e300, "rating: must be a number from 0 to 1000000000000, is 1e+300"),
        ("item_id", "", "item_id: must not be empty"),
    ],
)
def test_an_event_that_cannot_be_read_holds_up_no_other(
    log_and_files: tuple[EventLog, Path], field: str, value: object, reason: str
) -> None:
    """It stands unreadable in its place, with its id and what is wrong with it; the events around it are read."""
    log, where = log_and_files
    log.append([event("a"), event("bad"), event("c")])
    damage(log, where, "bad", field, value)
    assert [row.event for row in log.read(0, 10)] == [event("a"), Unreadable("bad", reason), event("c")]
    assert log.read(0, 10)[1].recorded_ns > 0


def test_text_that_is_none_is_unreadable(tmp_path: Path) -> None:
    """SQLite keeps any bytes as text: what is not UTF-8 is said of the field, and not what it says."""
    log = SqliteLog(tmp_path / "events.db")
    log.append([event("a"), event("bad"), event("c")])
    with closing(sqlite3.connect(tmp_path / "events.db")) as db:
        db.execute("UPDATE event SET user_id = CAST(x'ff61' AS TEXT), recorded_ns = 'soon' WHERE event_id = 'bad'")
        db.commit()
    assert [row.event for row in log.read(0, 10)] == [event("a"), Unreadable("bad", "user_id: is not UTF-8"), event("c")]
    assert log.read(1, 1)[0].recorded_ns == 0
    log.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("content", "unreadable"),
    [
        (None, Unreadable("", "its content is gone")),
        (b"{", Unreadable("", "its content is no JSON")),
        (b"7", Unreadable("", "its content is no list")),
        (b'["bad"]', Unreadable("bad", "has 1 fields, this program knows 13")),
        (json.dumps([*event("bad"), "new"]).encode(), Unreadable("bad", "has 14 fields, this program knows 13")),
        (json.dumps(event("bad", user_id=7)).encode(), Unreadable("bad", "user_id: must be text, is int")),
        (json.dumps(event("bad", query="\ud800")).encode(), Unreadable("bad", "query: is not UTF-8")),
    ],
)
def test_content_that_is_no_event_is_unreadable(redis_url: str, content: bytes | None, unreadable: Unreadable) -> None:
    """Whatever stands in Redis in an event's place, it is named and the events around it are read."""
    log = RedisLog(redis_url, timeout_s=30.0)
    log.append([event("a"), event("bad"), event("c")])
    with redis.Redis.from_url(redis_url) as client:
        client.hdel("{longtail:events:1}:contents", "2")
        if content is not None:
            client.hset("{longtail:events:1}:contents", "2", content)
    assert [row.event for row in log.read(0, 10)] == [event("a"), unreadable, event("c")]
    log.close()


def test_a_tombstone_says_nothing_of_the_user() -> None:
    """It is 16 bytes of a digest, the same for the same user."""
    assert tombstone("ann") == tombstone("ann") != tombstone("ann ")
    assert len(tombstone("ann")) == 16


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """The message has the path and what to do."""
    (tmp_path / "events.db").write_bytes(b"not a database" * 100)
    log = SqliteLog(tmp_path / "events.db")
    with pytest.raises(Unavailable, match=r"event log: .*events\.db: is damaged .*restore it"):
        log.append([event("a")])
    with pytest.raises(Unavailable, match=r"is damaged"):
        log.read(0, 1)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """A layout this program does not know is not written to."""
    db = sqlite3.connect(tmp_path / "events.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Unavailable, match="event log: the SQLite file is of version 99"):
        SqliteLog(tmp_path / "events.db").append([event("a")])


def test_a_locked_file_is_unavailable_and_then_works(tmp_path: Path) -> None:
    """A writer that holds the lock too long is waited for `busy_s`, then reported; nothing is stored until it is sent again."""
    log = SqliteLog(tmp_path / "events.db", busy_s=0.05)
    log.append([event("a")])
    other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        log.append([event("b")])
    other.close()
    assert everything(log) == [event("a")]
    assert log.append([event("a"), event("b")]) == [Outcome.DUPLICATE, Outcome.STORED]
    log.close()


def test_a_full_disk_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    """An append that does not fit stores nothing of its batch, and what was there stays."""
    log = SqliteLog(tmp_path / "events.db")
    log.append([event("a")])
    with log._file.open() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Unavailable, match="full"):
        log.append([event(str(i), query="x" * 1000) for i in range(100)])
    assert everything(log) == [event("a")]
    log.close()


def test_a_reader_that_keeps_the_old_file_in_use_is_told_of(tmp_path: Path) -> None:
    """While somebody reads from before the forgetting its bytes cannot go: an error says to call again, and then they do."""
    log = SqliteLog(tmp_path / "events.db", busy_s=0.05)
    log.append([event("a", "ann-the-reader")])
    other = sqlite3.connect(tmp_path / "events.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM event").fetchone()
    with pytest.raises(Unavailable, match=r"call again|locked"):
        log.forget(["ann-the-reader"])
    assert everything(log) == []
    other.close()
    log.forget(["ann-the-reader"])
    assert not holds(tmp_path, "ann-the-reader")
    log.close()


def test_an_append_is_on_the_disk_before_it_returns(tmp_path: Path) -> None:
    """Every connection, also one made after an error, waits for the disk at each commit: `synchronous` is FULL (2)."""
    log = SqliteLog(tmp_path / "events.db")
    for _ in range(2):
        with log._file.open() as db:
            assert db.execute("PRAGMA synchronous").fetchone() == (2,)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with pytest.raises(Unavailable), log._file.open() as db:
            db.execute("SELECT no_such_column")
    log.close()


def test_a_removed_file_is_made_anew(tmp_path: Path) -> None:
    """The state directory may be deleted under a running gateway: events then go to a new file, not to one nobody else sees."""
    log = SqliteLog(tmp_path / "events.db")
    log.append([event("a")])
    for file in tmp_path.iterdir():
        file.unlink()
    assert log.append([event("a")]) == [Outcome.STORED]
    other = SqliteLog(tmp_path / "events.db")
    assert everything(other) == [event("a")]
    log.close()
    other.close()


@pytest.mark.servers
def test_events_outlive_redis(redis_server: RedisServer, redis_url: str) -> None:
    """While Redis is gone the log is unavailable; killed and restarted it has what it acknowledged, and a repeated event counts once."""
    log = RedisLog(redis_url)
    log.append([event("a"), event("b")])
    redis_server.kill()
    for call in (lambda: log.append([event("c")]), lambda: log.read(0, 1), lambda: log.forget(["u"])):
        with pytest.raises(Unavailable, match="event log: Redis: "):
            call()
    redis_server.start()
    assert log.append([event("b"), event("c")]) == [Outcome.DUPLICATE, Outcome.STORED]
    assert everything(log) == [event("a"), event("b"), event("c")]
    log.close()


@pytest.mark.servers
def test_a_redis_that_does_not_answer_is_unavailable(redis_server: RedisServer, redis_url: str) -> None:
    """A server that hangs is given up after `timeout_s`; once it goes on, the batch of unknown outcome is sent again and counts once."""
    log = RedisLog(redis_url, timeout_s=0.1)
    log.append([event("a")])
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="event log: Redis: "):
            log.append([event("b")])
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    slow = RedisLog(redis_url, timeout_s=30.0)
    slow.append([event("b")])
    assert everything(slow) == [event("a"), event("b")]
    log.close()
    slow.close()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--appendonly", "no"], "does not persist: it needs `appendonly yes`"),
        (["--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "evicts keys: .* has allkeys-lru"),
    ],
)
def test_a_redis_that_would_lose_events_is_refused(tmp_path: Path, options: list[str], why: str) -> None:
    """Nothing is acknowledged by a server that keeps nothing or throws keys away; once it is set right it is taken."""
    server = RedisServer(tmp_path, *options)
    try:
        log = RedisLog(server.url)
        for _ in range(2):
            with pytest.raises(Unavailable, match=why):
                log.append([event("a")])
        with redis.Redis.from_url(server.url) as client:
            client.config_set("appendonly", "yes")
            client.config_set("maxmemory-policy", "noeviction")
        assert log.append([event("a")]) == [Outcome.STORED]
        log.close()
    finally:
        server.kill()


@pytest.mark.servers
@pytest.mark.parametrize(("policy", "warned"), [("always", False), ("everysec", True), ("no", True)])
def test_a_redis_that_may_lose_the_last_second_is_warned_of(
    redis_url: str, caplog: pytest.LogCaptureFixture, policy: str, warned: bool
) -> None:
    """Only `appendfsync always` opens without a warning."""
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("appendfsync", policy)
        with caplog.at_level(logging.WARNING):
            log = RedisLog(redis_url)
            log.append([event("a")])
            log.append([event("b")])
        client.config_set("appendfsync", "always")
    assert [r.message for r in caplog.records] == ["event_log_durability"] * warned
    log.close()


def test_a_reader_never_misses_what_comes_later(log_and_files: tuple[EventLog, Path]) -> None:
    """One that follows the log by offsets while others append sees every event, once and in order."""
    log, where = log_and_files
    make = (lambda: SqliteLog(where / "events.db", busy_s=30.0)) if isinstance(log, SqliteLog) else (lambda: RedisLog(_url(log)))
    batches = [[event(f"{w}.{b}.{i}") for i in range(5)] for w in range(2) for b in range(20)]

    def write(part: list[list[Event]]) -> None:
        mine = make()
        for batch in part:
            mine.append(batch)
        mine.close()

    threads = [threading.Thread(target=write, args=(batches[w::2],)) for w in range(2)]
    for thread in threads:
        thread.start()
    seen: list[Event] = []
    after = 0
    while len(seen) < 200:
        rows = log.read(after, 3)
        if not rows:
            time.sleep(0.001)
            continue
        seen += [row.event for row in rows]
        after = rows[-1].offset
    for thread in threads:
        thread.join()
    assert seen == everything(log)
    assert {one.event_id for one in seen} == {one.event_id for batch in batches for one in batch}


def _url(log: EventLog) -> str:
    assert isinstance(log, RedisLog)
    port = log._redis.connection_pool.connection_kwargs["port"]
    return f"redis://127.0.0.1:{port}/0"


def test_a_file_from_before_orders_is_brought_up(tmp_path: Path) -> None:
    """Its events are there without an order, sent again they are duplicates, and new ones keep theirs."""
    path = tmp_path / "events.db"
    db = sqlite3.connect(path)
    db.executescript("""
        CREATE TABLE event (
            "offset" INTEGER PRIMARY KEY AUTOINCREMENT,
            event_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, event_time_ns INTEGER NOT NULL, user_id TEXT NOT NULL, item_id TEXT NOT NULL,
            surface TEXT, query TEXT NOT NULL, ranking_id TEXT NOT NULL, position INTEGER, quantity REAL, value_micros INTEGER, rating REAL
        );
        CREATE TABLE forgotten (user BLOB PRIMARY KEY) WITHOUT ROWID;
        PRAGMA user_version = 1;""")
    old = event("a")
    db.execute(f"INSERT INTO event VALUES (1, {', '.join('?' * 12)})", old[:-1])
    db.commit()
    db.close()
    log = SqliteLog(path)
    assert log.append([old, event("b", order_id="o")]) == [Outcome.DUPLICATE, Outcome.STORED]
    assert [row.event for row in log.read(0, 10)] == [old, event("b", order_id="o")]
    assert [row.recorded_ns > 0 for row in log.read(0, 10)] == [False, True]  # nobody wrote down when the old one came
    assert len(log.head().identity) == 32
    log.close()


def test_another_file_is_another_log(tmp_path: Path) -> None:
    """A new file in the old one's place has an identity of its own, a copy has the same one."""
    path, copy = tmp_path / "events.db", tmp_path / "copy.db"
    log = SqliteLog(path)
    log.append([event("a")])
    was = log.head()
    log.close()
    path.rename(copy)
    assert SqliteLog(copy).head() == was
    assert log.head().identity != was.identity
    log.close()


@pytest.mark.servers
def test_an_event_from_before_orders_is_read_from_redis(redis_url: str) -> None:
    """One that was stored without the field is the same event as one sent now without an order."""
    log = RedisLog(redis_url, timeout_s=30.0)
    old = event("a")
    log.append([old])
    with redis.Redis.from_url(redis_url) as client:
        (content,) = client.hvals("{longtail:events:1}:contents")
        assert len(json.loads(content)) == len(Event._fields) - 1  # as it always was
    assert log.append([old, event("a", order_id="o")]) == [Outcome.DUPLICATE, Outcome.CONFLICT]
    assert [row.event for row in log.read(0, 10)] == [old]
    log.close()
