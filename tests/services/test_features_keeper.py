"""The keeper: when it makes the snapshot, what it makes it from, and what becomes of rows put meanwhile."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ranking.assemble import ItemFeatures
from ranking.errors import Unavailable
from ranking.features import ITEM_SCALARS, Entity
from ranking.layout import Layout
from ranking.types import FloatArray
from services.feature_store.items import items_of
from services.feature_store.port import FeatureRows
from services.features import process as process_module
from services.features.keeper import Keeper
from services.features.process import keep
from services.features.settings import Settings, load
from services.privacy.forgotten import Forgotten
from services.rpc.settings import InvalidSettingError
from services.snapshot.errors import InvalidSnapshotError, SnapshotTakenError
from services.snapshot.snapshot import Snapshot
from services.snapshot.writer import Writer
from tests.services.gateway_fakes import FakeStore
from tests.services.snapshot.catalogue import same

PRICE = ITEM_SCALARS.index("price_28d")


class Shop(FakeStore):
    """A store that can say which items it has, and when it last changed."""

    def __init__(self, items: int = 30) -> None:
        super().__init__()
        self.items = [f"i{i}" for i in range(items)]
        self.changes = 1
        self.before_read: Callable[[], None] = lambda: None

    def ids(self, entity: Entity) -> Sequence[str]:
        assert entity is Entity.ITEM
        return self.items

    def revision(self) -> str:
        if self.down:
            raise Unavailable("feature store: it is down")
        return f"change {self.changes}"

    def read(self, entity: Entity, ids: Sequence[str], features: Sequence[str] = ()) -> FeatureRows:
        self.before_read()
        return super().read(entity, ids)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Layout(tmp_path).item_snapshot


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    with Writer(path) as writer:
        yield writer


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, a process that was told to stop ends in good order."""
    monkeypatch.setattr(process_module, "_STOP_S", 600.0)


def keeper(store: Shop, writer: Writer, clock: Clock | None = None, stop: threading.Event | None = None) -> Keeper:
    return Keeper(store, writer, refresh_s=60.0, stale_s=180.0, batch=7, stop=stop or threading.Event(), clock=clock or Clock())


def test_it_is_made_in_batches_of_what_the_store_says(path: Path, writer: Writer) -> None:
    """Every item the store lists and knows, as one read of all of them would have it; one it lists and does not know is left out."""
    store = Shop()
    store.items.append("listed-only")
    assert keeper(store, writer).look()
    assert max(len(ids) for _, ids in store.reads) == 7
    snapshot = Snapshot.open(path)
    expected, names = items_of(store.items, store.read(Entity.ITEM, store.items))
    items, times, known = snapshot.gather(store.items)
    assert same(items, expected)
    assert known.tolist() == [True] * 30 + [False]
    assert dict(snapshot.names) == names
    assert times[:, 0].tolist() == [store.event_time] * 3
    assert snapshot.as_of == 1000.0


def test_it_is_made_again_when_it_is_old_or_the_store_changed(path: Path, writer: Writer) -> None:
    """Not before; and a keeper that starts with a young one of the same store makes none."""
    store, clock = Shop(), Clock()
    made = keeper(store, writer, clock)
    assert made.look()
    clock.now += 59.0
    assert not made.look()
    assert not keeper(store, writer, clock).look()
    store.changes += 1
    assert made.look()
    clock.now += 60.0
    assert made.look()
    assert (Snapshot.open(path).header.generation, Snapshot.open(path).as_of) == (3, clock.now)


@pytest.mark.parametrize("step", [-3600.0, -61.0])
def test_it_is_made_again_when_the_clock_was_set_back(path: Path, writer: Writer, step: float) -> None:
    """One that is of a time to come is made at once, not when that time has come; a little ahead is no matter."""
    store, clock = Shop(), Clock()
    made = keeper(store, writer, clock)
    assert made.look()
    clock.now -= 1.0
    assert not made.look()
    clock.now += 1.0 + step
    assert made.look()
    assert Snapshot.open(path).as_of == clock.now


@pytest.mark.parametrize("gone", ["deleted", "overwritten", "truncated"])
def test_it_is_made_again_when_it_is_gone_or_damaged(path: Path, writer: Writer, gone: str) -> None:
    """The next look sees it, also where nothing else is due; an item that was only pushed survives a deleted file."""
    store = Shop()
    made = keeper(store, writer)
    made.look()
    put = ["i40"]  # known to the store, not listed by it
    made.put(put, *pushed(store, put))
    if gone == "deleted":
        path.unlink()
    elif gone == "overwritten":
        overwrite(path)
    else:
        os.truncate(path, 5000)
    assert made.look()
    assert Snapshot.open(path).gather(store.items)[2].all()
    assert Snapshot.open(path).gather(put)[2].tolist() == [gone == "deleted"]
    assert not made.look()


def test_rows_that_were_damaged_in_place_are_noticed(path: Path, writer: Writer) -> None:
    """Nothing but the checksum tells: read as gateways read it, the file is made again with the next look that is due."""
    store = Shop()
    made = Keeper(store, writer, refresh_s=60.0, batch=7, stop=threading.Event(), recheck_s=1e-9, clock=Clock())
    assert made.look()
    assert not made.look()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xa5")
    with pytest.raises(InvalidSnapshotError, match="has damaged rows"):
        Snapshot.open(path)
    assert made.look()
    assert Snapshot.open(path).gather(store.items)[2].all()
    assert not made.look()


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xa5" * 8192)


def pushed(store: Shop, ids: Sequence[str]) -> tuple[ItemFeatures, FloatArray, dict[int, str]]:
    rows = store.read(Entity.ITEM, ids)
    features, names = items_of(ids, rows)
    return features, rows.event_times, names


@pytest.mark.parametrize(("age", "unhurried"), [(61.0, True), (180.0, False), (-3600.0, False)])
def test_one_that_nobody_believes_is_made_in_haste(writer: Writer, age: float, unhurried: bool) -> None:
    """Without the pauses that leave the store to others: gateways read the store themselves until it is there."""
    store, clock, stop = Shop(), Clock(), Pauses()
    made = keeper(store, writer, clock, stop)
    assert made.look()
    assert set(stop.asked) == {0.0}
    stop.asked.clear()
    clock.now += age
    assert made.look()
    assert all(pause > 0.0 for pause in stop.asked) == unhurried


class Pauses(threading.Event):
    """Notes how long it was asked to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


def test_a_row_put_while_it_is_made_is_not_lost(path: Path, writer: Writer) -> None:
    """A row that comes between the store's read and the new file is in both files; one the store does not list is asked for again."""
    store = Shop()
    made = keeper(store, writer)
    made.look()
    put = ["i3", "i40"]  # the second is known to the store, and not listed by it
    new, names = items_of(put, store.read(Entity.ITEM, put))
    new.scalars[:, PRICE] = 77.0

    def push() -> None:
        if len(store.reads) == 8:  # i3 has been read, and is not written yet
            made.put(put, new, np.full((3, 2), store.event_time + 1.0), names)

    store.before_read = push
    store.changes += 1
    old = Snapshot.open(path)
    made.look()
    for snapshot in (old, Snapshot.open(path)):
        items, _, known = snapshot.gather(put)
        assert known.all()
        assert items.scalars[:, PRICE].tolist() == [77.0, 77.0]
    assert old.header.generation < Snapshot.open(path).header.generation
    store.changes += 1
    made.look()
    assert Snapshot.open(path).gather(put)[2].all()


def test_a_store_that_is_down_leaves_what_there_is(path: Path, writer: Writer) -> None:
    """Whenever it goes down, the snapshot stands, and the next look tries again."""
    store = Shop()
    made = keeper(store, writer)
    made.look()

    def fail() -> None:
        raise Unavailable("feature store: it went down")

    store.changes += 1
    store.before_read = fail
    with pytest.raises(Unavailable):
        made.look()
    assert Snapshot.open(path).header.generation == 1
    store.before_read = lambda: None
    assert made.look()


def test_an_empty_store_makes_no_snapshot(path: Path, writer: Writer) -> None:
    """Before anything was materialised there is nothing to keep."""
    with pytest.raises(Unavailable, match="it has no items yet"):
        keeper(Shop(0), writer).look()
    assert not path.exists()


def test_told_to_stop_it_does_not_finish(path: Path, writer: Writer) -> None:
    """A build of any length ends with the batch at hand."""
    stop = threading.Event()
    stop.set()
    store = Shop()
    assert not keeper(store, writer, stop=stop).look()
    assert (len(store.reads), path.exists()) == (1, False)


def test_the_process_keeps_on_and_says_how_it_stands(tmp_path: Path, patient: None) -> None:
    """It outlives a store that is down, says so, makes the snapshot once it is up, and takes its word back when it stops."""
    store, stop, told = Shop(), threading.Event(), Layout(tmp_path).run / "features.json"
    store.down = True
    process = threading.Thread(target=keep, args=(Settings(home=tmp_path, registry_poll_s=0.02),), kwargs={"store": store, "stop": stop})
    process.start()
    try:
        wait(lambda: told.exists() and "it is down" in json.loads(told.read_text())["error"])
        assert not json.loads(told.read_text())["ready"]
        store.down = False
        wait(lambda: json.loads(told.read_text())["ready"])
        said = json.loads(told.read_text())
        assert (said["items"], said["generation"], said["error"]) == (30, 1, "")
    finally:
        stop.set()
        process.join()
    assert not told.exists()


def test_whom_a_materialisation_brings_back_is_forgotten_again(tmp_path: Path, patient: None) -> None:
    """Each time the snapshot is made anew, users with a tombstone leave the online store; nobody else does."""

    class Users(Shop):
        def __init__(self) -> None:
            super().__init__()
            self.forgot: list[str] = []

        def ids(self, entity: Entity) -> Sequence[str]:
            return ["ann", "bob"] if entity is Entity.USER else super().ids(entity)

        def forget(self, users: Sequence[str]) -> int:
            self.forgot.extend(users)
            return len(users)

    store, stop, told = Users(), threading.Event(), Layout(tmp_path).run / "features.json"
    Forgotten(Layout(tmp_path).forgotten).add(["ann", "cid"])
    process = threading.Thread(target=keep, args=(Settings(home=tmp_path, registry_poll_s=0.02),), kwargs={"store": store, "stop": stop})
    process.start()
    try:
        wait(lambda: store.forgot == ["ann"])
        wait(lambda: told.exists() and json.loads(told.read_text())["ready"])
    finally:
        stop.set()
        process.join()
    assert store.forgot == ["ann"]


def wait(condition: Callable[[], bool]) -> None:
    """The test's own timeout ends a vain wait."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("LONGTAIL_SNAPSHOT_REFRESH_S", "0", "must be finite and greater than 0"),
        ("LONGTAIL_REGISTRY_POLL_S", "nan", "must be finite and greater than 0"),
        ("LONGTAIL_READ_BATCH", "many", "must be a whole number"),
        ("LONGTAIL_LOG_LEVEL", "LOUD", "must be DEBUG"),
    ],
)
def test_nonsense_settings_are_refused(variable: str, value: str, why: str) -> None:
    """The message begins with the environment variable."""
    with pytest.raises(InvalidSettingError, match=f"^{variable}: {why}"):
        load([], {variable: value})


def test_told_to_stop_it_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that hangs holds up nobody: what is under way is left to the process' end, and so is the snapshot's lock."""
    store, stop, held = Shop(), threading.Event(), threading.Event()
    opened: list[Writer] = []

    def opening(path: Path) -> Writer:
        opened.append(Writer(path))
        return opened[0]

    def hang() -> None:
        held.set()
        stop.wait()
        store.hold.wait(30)

    store.before_read = hang
    monkeypatch.setattr(process_module, "Writer", opening)
    ended: list[bool] = []
    process = threading.Thread(target=lambda: ended.append(keep(Settings(home=tmp_path), store=store, stop=stop)))
    store.hold.clear()
    process.start()
    held.wait()
    stop.set()
    process.join()
    assert ended == [False]
    with pytest.raises(SnapshotTakenError):
        Writer(Layout(tmp_path).item_snapshot)
    store.hold.set()
    wait(lambda: not any(thread.name == "keeper" for thread in threading.enumerate()))
    opened[0].close()
