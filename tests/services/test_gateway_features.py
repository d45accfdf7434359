"""The feature caches: what they hold is what the store said, and a warm call waits for nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranking.assemble import ItemFeatures, item_features
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import ITEM_SCALARS, Entity, stable_key
from services.feature_store.changes import Changes
from services.feature_store.freshness import freshness_codes
from services.feature_store.port import ENTITY_VIEWS, FeatureRows
from services.gateway.features import Features
from services.gateway.items import ItemTable
from services.snapshot.latest import Latest
from tests.services.gateway_fakes import FakeStore, eventually, item

VIEWS = len(ENTITY_VIEWS[Entity.ITEM])


def features(store: FakeStore, **options: Any) -> Features:
    fixed = {
        "user_ttl_s": 60.0,
        "user_cache": 100,
        "item_refresh_s": 60.0,
        "item_cache": 1000,
        "snapshot": Latest(Path("nowhere")),
        "snapshot_stale_s": 60.0,
    }
    return Features(store, **(fixed | options))


def soon() -> float:
    return time.monotonic() + 5.0


def ids(*numbers: int) -> list[str]:
    return [f"i{i}" for i in numbers]


async def test_a_second_list_reads_only_what_is_new() -> None:
    """User once, items once, new items in one batched read."""
    store = FakeStore()
    reader = features(store)
    await reader.get("u", ids(1, 2, 3), soon())
    found = await reader.get("u", ids(3, 4, 2, 5), soon())
    assert sorted(store.reads) == [(Entity.ITEM, ("i1", "i2", "i3")), (Entity.ITEM, ("i4", "i5")), (Entity.USER, ("u",))]
    expected = item_features(np.array([stable_key(i) for i in ids(3, 4, 2, 5)]), {n: [item(i)[n] for i in (3, 4, 2, 5)] for n in item(0)})
    for column in fields(ItemFeatures):
        np.testing.assert_array_equal(getattr(found.items, column.name), getattr(expected, column.name))
    await reader.close()


async def test_concurrent_calls_share_one_read() -> None:
    """Ten calls for the same cold user and items cause one read of each."""
    store = FakeStore()
    reader = features(store)
    await asyncio.gather(*(reader.get("u", ids(1, 2), soon()) for _ in range(10)))
    assert len(store.reads) == 2
    await reader.close()


async def test_old_items_are_read_again_in_the_background() -> None:
    """A call that finds old rows is answered from them at once; the next calls see the new values, and the refresh runs once."""
    store = FakeStore()
    reader = features(store, item_refresh_s=0.05)
    await reader.get("u", ids(1), soon())
    await asyncio.sleep(0.1)
    store.event_time += 1000.0
    store.hold.clear()  # a call that waited for the store would hang
    for _ in range(3):
        await reader.get("u", ids(1), soon())
    store.hold.set()
    await eventually(lambda: store.reads.count((Entity.ITEM, ("i1",))) == 2)
    await reader.close()


async def test_a_user_is_read_again_after_its_ttl() -> None:
    """With a ttl of 0 every call reads the user."""
    store = FakeStore()
    reader = features(store, user_ttl_s=0.0)
    for _ in range(3):
        await reader.get("u", ids(1), soon())
    assert store.reads.count((Entity.USER, ("u",))) == 3
    await reader.close()


async def test_a_late_read_still_fills_the_caches() -> None:
    """The call that gave up gets defaults; the read it began serves the next one."""
    store = FakeStore()
    store.hold.clear()
    reader = features(store)
    given_up = await reader.get("u", ids(1), time.monotonic() + 0.05)
    assert {d.reason for d in given_up.degradations} == {"DEADLINE"}
    store.hold.set()
    await eventually(lambda: len(store.reads) == 2)
    found = await reader.get("u", ids(1), soon())
    assert (found.degradations, len(store.reads)) == ((), 2)
    await reader.close()


async def test_the_user_cache_keeps_those_used_lately() -> None:
    """With room for two, the third pushes out the one used least lately."""
    store = FakeStore()
    reader = features(store, user_cache=2)
    for user in ("a", "b", "a", "c", "a", "b"):
        await reader.get(user, ids(1), soon())
    users = [key for entity, (key, *_) in store.reads if entity is Entity.USER]
    assert users == ["a", "b", "c", "b"]
    await reader.close()


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True), max_size=20), st.integers(8, 30))
def test_the_item_table_agrees_with_a_dictionary(batches: list[list[int]], capacity: int) -> None:
    """Whatever is put and evicted, a row that is there holds what was last put, and there are never more than `capacity`."""
    table, model = ItemTable(capacity), dict[str, float]()
    for turn, batch in enumerate(batches):
        names = ids(*batch)
        read = FeatureRows({"price_28d": [turn + i / 100 for i in batch]}, np.full((VIEWS, len(batch)), float(turn)))
        table.put(names, read, now=float(turn))
        model.update((name, np.float32(turn + i / 100)) for name, i in zip(names, batch, strict=True))
        assert len(table) <= capacity
        rows = table.rows(names)
        assert (rows >= 0).all()
        assert table.gather(rows, float(turn))[1].tolist() == [[float(turn)] * len(batch)] * VIEWS
        held = [name for name, row in zip(model, table.rows(list(model)), strict=True) if row >= 0]
        found, _ = table.gather(table.rows(held), float(turn))
        price = found.scalars[:, ITEM_SCALARS.index("price_28d")]
        assert price.tolist() == [model[name] for name in held]
        assert found.keys.tolist() == [stable_key(name) for name in held]


async def test_an_items_attributes_have_their_names() -> None:
    """What the store calls the seller is what its key stands for, in warm and cold lists; nothing is called nothing."""
    reader = features(FakeStore())
    column = ITEM_ATTRIBUTES.index("seller")
    for _ in range(2):
        found = await reader.get("u", [*ids(0, 1, 7), "unheard-of"], soon())
        assert [found.names[key] for key in found.items.attribute_keys[:, column].tolist()] == ["s0", "s1", "", ""]
    await reader.close()


def test_names_go_with_the_last_item_that_has_them() -> None:
    """However many sellers come and go, the table knows those of the items it holds and no others."""
    table = ItemTable(10)
    for i in range(100):
        table.put([f"i{i}"], FeatureRows({"seller": [f"s{i}"], "brand": ["b"]}, np.zeros((VIEWS, 1))), now=float(i))
    found, _ = table.gather(table.rows(["i99"]), 100.0)
    assert {table.names[key] for key in found.attribute_keys[0].tolist()} == {"s99", "b", ""}
    assert len(table.names) <= 10 + 2


def test_freshness_follows_event_time_and_ttl() -> None:
    """Within the ttl fresh, beyond it stale; no row anywhere missing, a row in one view only defaulted in the other."""
    nan = float("nan")
    times = np.array([[100.0, 50.0, nan, nan], [100.0, 100.0, nan, 100.0]])
    codes = freshness_codes(times, np.array([20.0, 1000.0]), now=110.0)
    assert codes.tolist() == [[0, 1, 2, 3], [0, 0, 2, 0]]


async def test_a_user_who_changed_is_read_again(tmp_path: Path) -> None:
    """At once, whatever the age of what is cached; another process says so through the file both have open."""
    store, here, there = FakeStore(), Changes(tmp_path / "users"), Changes(tmp_path / "users")
    reader = features(store, change=here.of)
    for _ in range(2):
        await reader.get("u", [], soon())
    assert len(store.reads) == 1
    there.bump("u")
    for _ in range(2):
        await reader.get("u", [], soon())
    assert len(store.reads) == 2
    await reader.close()


async def test_a_change_while_a_user_is_read_is_not_missed(tmp_path: Path) -> None:
    """A call that comes after the change shares no read that began before it, and the older read does not stay."""
    store, changes = FakeStore(), Changes(tmp_path / "users")
    reader = features(store, change=changes.of)
    store.hold.clear()
    first = asyncio.create_task(reader.get("u", [], soon()))
    await eventually(lambda: len(reader._reading_users) == 1)
    changes.bump("u")
    second = asyncio.create_task(reader.get("u", [], soon()))
    await eventually(lambda: len(reader._reading_users) == 2)
    store.hold.set()
    await asyncio.gather(first, second)
    await reader.get("u", [], soon())
    assert len(store.reads) == 2
    await reader.close()


@given(st.lists(st.text(max_size=8), min_size=1, max_size=20))
def test_a_change_says_too_much_at_most(users: list[str]) -> None:
    """Whoever changed has another number; a counter at its end begins again."""
    with TemporaryDirectory() as folder:
        changes = Changes(Path(folder) / "users")
        changes._counts[:] = 2**32 - 1
        for user in users:
            before = changes.of(user)
            changes.bump(user)
            assert changes.of(user) != before


async def test_a_call_cancelled_before_its_reads_begin_leaves_nothing_behind() -> None:
    """A caller that leaves at once: no read was made that nobody awaits, which Python would report, and the next call reads as ever."""
    store = FakeStore()
    reader = features(store)
    call = asyncio.create_task(reader.get("u", ids(1), soon()))
    await asyncio.sleep(0)  # the call waits for its reads, of which none has begun
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    gc.collect()  # what was never awaited would say so now, and warnings are errors
    await reader.get("u", ids(1), soon())
    assert sorted(store.reads) == [(Entity.ITEM, ("i1",)), (Entity.USER, ("u",))]
    await reader.close()
