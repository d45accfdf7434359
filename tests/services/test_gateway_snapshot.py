"""A gateway with a snapshot: what it has is read from nowhere else, what it lacks and what is too old comes from the store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import generate_latest

from ranking.features import ITEM_SCALARS, Entity
from ranking.layout import Layout
from services.feature_store.items import items_of
from services.gateway.features import Features
from services.gateway.metrics import registry
from services.gateway.snapshot_metrics import SnapshotMetrics
from services.snapshot.latest import Latest
from services.snapshot.writer import Writer
from tests.services.gateway_fakes import FakeStore, Gateway, eventually, gateway, reasons, search
from tests.services.snapshot.catalogue import same

PRICE = ITEM_SCALARS.index("price_28d")


def ids(*numbers: int) -> list[str]:
    return [f"i{i}" for i in numbers]


def publish(path: Path, items: Sequence[str], *, as_of: float | None = None, price: float | None = None) -> None:
    """A snapshot of these items as `FakeStore` has them, but with another price where one is given."""
    read = FakeStore().read(Entity.ITEM, items)
    features, names = items_of(items, read)
    if price is not None:
        features.scalars[:, PRICE] = price
    with Writer(path) as writer:
        writer.build(items, features, read.event_times, names, as_of=time.time() if as_of is None else as_of)


def features(store: FakeStore, path: Path, **options: Any) -> Features:
    latest = Latest(path)
    latest.poll()
    fixed = {"user_ttl_s": 60.0, "user_cache": 100, "item_refresh_s": 60.0, "item_cache": 1000, "snapshot_stale_s": 60.0}
    return Features(store, snapshot=latest, **(fixed | options))


def soon() -> float:
    return time.monotonic() + 5.0


async def test_an_item_in_the_snapshot_needs_no_read(tmp_path: Path) -> None:
    """Only what the snapshot lacks is read, once; the list is the one the store alone would have given, names of groups too."""
    path, store, alone = tmp_path / "items", FakeStore(), FakeStore()
    publish(path, ids(*range(10)))
    reader, plain = features(store, path), features(alone, tmp_path / "none")
    asked = [*ids(12, 3, 11, 7), "unheard-of", *ids(0)]
    for _ in range(2):
        found, expected = await reader.get("", asked, soon()), await plain.get("", asked, soon())
        assert same(found.items, expected.items)
        assert (found.counts(), found.degradations) == (expected.counts(), expected.degradations)
        keys = found.items.attribute_keys.ravel().tolist()
        assert [found.names[k] for k in keys] == [expected.names[k] for k in keys]
    await reader.get("", ids(1, 2, 3), soon())
    assert store.reads == [(Entity.ITEM, ("i12", "i11", "unheard-of"))]
    for some in (reader, plain):
        await some.close()


async def test_a_snapshot_that_is_too_old_is_not_believed(tmp_path: Path) -> None:
    """Beyond its bound its items are read from the store, and the answer says so."""
    path, store = tmp_path / "items", FakeStore()
    publish(path, ids(1, 2), price=99.0, as_of=time.time() - 100.0)
    reader = features(store, path)
    found = await reader.get("", ids(1, 2), soon())
    assert found.items.scalars[:, PRICE].tolist() == [2.0, 3.0]
    assert [(d.component, d.reason) for d in found.degradations if d.component != "features:user"] == [("features:snapshot", "STALE")]
    assert store.reads == [(Entity.ITEM, ("i1", "i2"))]
    await reader.close()


async def test_a_snapshot_of_a_time_to_come_is_not_believed(tmp_path: Path) -> None:
    """The clock was set back: how old it is nobody knows, so its items are read from the store, and the answer says so."""
    path, store = tmp_path / "items", FakeStore()
    publish(path, ids(1, 2), price=99.0, as_of=time.time() + 3600.0)
    reader = features(store, path)
    found = await reader.get("", ids(1, 2), soon())
    assert found.items.scalars[:, PRICE].tolist() == [2.0, 3.0]
    assert [(d.component, d.reason) for d in found.degradations if d.component != "features:user"] == [("features:snapshot", "STALE")]
    await reader.close()


async def test_a_refused_snapshot_is_told(tmp_path: Path) -> None:
    """Where there is a file and it is no good, items come from the store, and the answer says why without naming the path."""
    path, store = tmp_path / "items", FakeStore()
    path.write_bytes(b"nothing of the kind")
    reader = features(store, path)
    found = await reader.get("", ids(1, 2), soon())
    assert found.items.scalars[:, PRICE].tolist() == [2.0, 3.0]
    (told,) = (d for d in found.degradations if d.component == "features:snapshot")
    assert told.reason == "UNAVAILABLE"
    assert "it is no snapshot: 19 bytes" in told.detail
    assert str(path) not in told.detail
    await reader.close()


async def test_an_old_snapshot_is_better_than_nothing(tmp_path: Path) -> None:
    """Beyond its bound and with the store down, what it says still stands in place of defaults, and both are told."""
    path, store = tmp_path / "items", FakeStore()
    publish(path, ids(1, 2), price=99.0, as_of=time.time() - 100.0)
    store.down = True
    reader = features(store, path)
    found = await reader.get("", ids(1, 2, 3), soon())
    assert found.items.scalars[:, PRICE].tolist() == [99.0, 99.0, 0.0]
    told = {d.component: d.reason for d in found.degradations}
    assert (told["features:snapshot"], told["features:item"]) == ("STALE", "UNAVAILABLE")
    await reader.close()


async def test_rank_takes_a_new_snapshot_while_it_runs(home: Path) -> None:
    """A gateway that started without one picks it up; from then on a list of its items reads only the user."""
    path = Layout(home).item_snapshot
    async with gateway(home, snapshot_poll_s=0.02) as gw:
        await gw.rank(search(5))
        publish(path, ids(*range(20)))

        async def reads_no_item() -> bool:
            gw.store.reads.clear()
            request = search(20)
            request.candidates.item_ids[:] = ids(*range(5, 20))
            response = await gw.rank(request)
            assert "features:snapshot" not in reasons(response)
            return all(entity is Entity.USER for entity, _ in gw.store.reads)

        await eventually(reads_no_item)
        assert items_read(gw) == 0


async def test_a_snapshot_overwritten_while_it_is_served_costs_no_call(home: Path) -> None:
    """Random bytes from the header on: calls go on being answered, soon from the store and saying so, until a good file comes."""
    path = Layout(home).item_snapshot
    publish(path, ids(*range(20)))
    async with gateway(home, snapshot_poll_s=0.02) as gw:

        async def told() -> bool:
            response = await gw.rank(search(5))
            assert len(response.results.item_ids) == 5
            return reasons(response).get("features:snapshot") == "UNAVAILABLE"

        assert not await told()
        with path.open("r+b") as file:
            file.write(np.random.default_rng(0).bytes(path.stat().st_size))
        await eventually(told)
        publish(path, ids(*range(20)))

        async def well_again() -> bool:
            return not await told()

        await eventually(well_again)


def items_read(gw: Gateway) -> int:
    return sum(len(read) for entity, read in gw.store.reads if entity is Entity.ITEM)


async def test_a_bad_snapshot_does_not_keep_a_gateway_from_starting(home: Path) -> None:
    """It ranks from the store as without one."""
    path = Layout(home).item_snapshot
    path.parent.mkdir()
    path.write_bytes(b"nothing of the kind")
    async with gateway(home) as gw:
        response = await gw.rank(search(5))
        assert len(response.results.item_ids) == 5
        assert (Entity.ITEM, tuple(ids(*range(5)))) in gw.store.reads


def test_its_age_is_a_metric(tmp_path: Path) -> None:
    """Age, generation and items of the snapshot there is; without one no sample of them, and refused files are counted."""
    path = tmp_path / "items"
    latest = Latest(path, clock=lambda: 130.0)
    exposed = registry(SnapshotMetrics(latest))
    path.write_bytes(b"no snapshot")
    latest.poll()
    text = generate_latest(exposed).decode()
    assert "longtail_snapshot_refused_total 1.0" in text
    assert "\nlongtail_snapshot_age_seconds " not in text
    publish(path, ids(1, 2), as_of=100.0)
    latest.poll()
    lines = generate_latest(exposed).decode().splitlines()
    assert {"longtail_snapshot_age_seconds 30.0", "longtail_snapshot_generation 1.0", "longtail_snapshot_items 2.0"} <= set(lines)


def test_gathered_arrays_are_the_callers_own(tmp_path: Path) -> None:
    """Writing into them changes neither the snapshot nor another list."""
    path = tmp_path / "items"
    publish(path, ids(1, 2))
    latest = Latest(path)
    latest.poll()
    assert latest.current is not None
    items, times, _ = latest.current.gather(ids(1, 2))
    items.scalars[:], times[:] = -1.0, -1.0
    items.attribute_keys[:] = -1
    again, when, _ = latest.current.gather(ids(1, 2))
    assert not np.isin(-1.0, again.scalars)
    assert (again.attribute_keys >= 0).any()
    assert (when > 0).all()
