"""What every online store must do behind `FeastStore`, whatever Feast's own reader and writer for it do."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feast import FeatureStore
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking.features import (
    FEATURE_SERVICES,
    ITEM_PROFILE,
    ITEM_STATISTICS,
    ITEM_TASTE,
    TASTE_WIDTH,
    USER_SESSION,
    VIEWS,
    Entity,
    Feature,
    View,
)
from ranking.types import Freshness
from services.feature_store.feast import JOIN_KEYS, FeastStore
from services.feature_store.freshness import TTLS, freshness_codes
from services.feature_store.port import ENTITY_VIEWS, READABLE_VIEWS
from services.feedback.types import Event, EventType
from services.online.types import LIFETIMES
from tests.services.features.stream_fakes import Shop

ROOT = Path(__file__).parents[2]
NOW = int(datetime(2026, 1, 10, tzinfo=UTC).timestamp()) * 10**6  # µs
DAY = 86_400 * 10**6
_fresh_ids = itertools.count()


def new_id() -> str:
    """An id no other test uses: they share a store."""
    return f"id-{next(_fresh_ids)}"


@dataclass(frozen=True)
class Place:
    """One applied repository and its online store."""

    repo: Path
    home: Path

    def opened(self) -> FeastStore:
        return FeastStore(self.repo, self.home)


def value(feature: Feature, seed: int) -> Any:
    """Some value of the feature's type."""
    text = ("", "crème brûlée", "x" * 200, f"word {seed}")[seed % 4]
    made: dict[str, Any] = {
        "float32": float(np.float32((0.0, -1.5, 1e30, seed / 7)[seed % 4])),
        "int64": (0, -(2**62), 2**62 + seed, seed)[seed % 4],
        "string": text,
        "float32_list": [float(np.float32(i * seed / 3)) for i in range((TASTE_WIDTH, 0, 200, 1)[seed % 4])],
        "int64_list": [(-1) ** i * 2 ** (i % 63) for i in range((0, 24, 200, 1)[seed % 4])],
    }
    return made[feature.dtype]


def row(view: View, seed: int) -> dict[str, Any]:
    """A row of which every ninth value is missing."""
    return {f.name: None if (seed + i) % 9 == 8 else value(f, seed + i) for i, f in enumerate(view)}


def push(store: FeastStore, view: View, rows: Mapping[str, Mapping[str, Any]], time_us: int) -> None:
    """Rows by id, all of one time."""
    columns = {f.name: [values.get(f.name) for values in rows.values()] for f in view}
    store.push(view, list(rows), columns, np.full(len(rows), time_us, np.int64))


def price(store: FeastStore, item: str) -> float:
    return float(store.read(Entity.ITEM, [item], ["price_28d"]).values["price_28d"][0])


def states(store: FeastStore, entity: Entity, ids: Sequence[str], features: Sequence[str] = ()) -> list[list[str]]:
    """(views, n) freshness of what was read, at `NOW`."""
    codes = freshness_codes(store.read(entity, ids, features).event_times, TTLS[entity], NOW / 1e6)
    return [[list(Freshness)[c].value for c in line] for line in codes.tolist()]


def take_turns(store: FeastStore, item: str, which: int) -> None:
    """Push every other of 60 ever newer versions of one row, and as often a view of one's own."""
    own, name, made = ((ITEM_PROFILE, "title", str), (ITEM_TASTE, "taste_at", int))[which]
    for turn in range(which, 60, 2):
        push(store, ITEM_STATISTICS, {item: {"price_28d": float(turn)}}, NOW + turn * 10**6)
        push(store, own, {item: {name: made(turn)}}, NOW + turn * 10**6)


class OnlineStoreSuite:
    """Subclasses give `place`, which all tests share."""

    @pytest.mark.parametrize("entity", list(Entity))
    def test_values_are_those_of_feast_itself(self, place: Place, entity: Entity) -> None:
        """Every feature, every kind of value, nulls, and an entity nobody knows: as `get_online_features(…).to_dict()` has them."""
        store, ids = place.opened(), [new_id() for _ in range(12)]
        for view in READABLE_VIEWS[entity]:
            push(store, view, {i: row(view, seed) for seed, i in enumerate(ids)}, NOW)
        asked = [*ids[::-1], new_id()]
        names = [f.name for view in READABLE_VIEWS[entity] for f in view]
        refs = [f"{view.name}:{f.name}" for view in READABLE_VIEWS[entity] for f in view]
        feast = FeatureStore(repo_path=str(place.repo))
        expected = feast.get_online_features(features=refs, entity_rows={JOIN_KEYS[entity]: asked}).to_dict()
        found = store.read(entity, asked, names)
        for name in names:
            dtype = next(f.dtype for view in READABLE_VIEWS[entity] for f in view if f.name == name)
            if dtype == "float32":
                np.testing.assert_array_equal(found.values[name], np.array(expected[name], np.float32))
            else:
                plain = [list(v) if dtype.endswith("list") and v is not None else v for v in found.values[name]]
                assert plain == [None if v is None else v for v in expected[name]], name
        np.testing.assert_array_equal(found.event_times, [[NOW / 1e6] * 12 + [np.nan]] * len(READABLE_VIEWS[entity]))

    def test_the_four_states(self, place: Place) -> None:
        """In its lifetime fresh, beyond it stale though Feast says present, a view without a row defaulted, an unknown entity missing."""
        store, young, old, bare, unknown = place.opened(), new_id(), new_id(), new_id(), new_id()
        push(store, ITEM_PROFILE, {i: row(ITEM_PROFILE, 0) for i in (young, old, bare)}, NOW)
        push(store, ITEM_STATISTICS, {young: row(ITEM_STATISTICS, 0)}, NOW - 14 * DAY)
        push(store, ITEM_STATISTICS, {old: row(ITEM_STATISTICS, 0)}, NOW - 14 * DAY - 10**6)
        assert states(store, Entity.ITEM, [young, old, bare, unknown]) == [
            ["fresh", "fresh", "fresh", "missing"],
            ["fresh", "stale", "defaulted", "missing"],
            ["defaulted", "defaulted", "defaulted", "missing"],
        ]
        # What is asked for decides nothing: an entity another view knows is not missing.
        assert states(store, Entity.ITEM, [bare, unknown], ["taste"])[2] == ["defaulted", "missing"]

    def test_a_row_without_any_value_is_a_row(self, place: Place) -> None:
        """It was computed and nothing is known: fresh, and every value missing."""
        store, item = place.opened(), new_id()
        push(store, ITEM_STATISTICS, {item: {}}, NOW)
        assert states(store, Entity.ITEM, [item]) == [["defaulted"], ["fresh"], ["defaulted"]]
        assert np.isnan(price(store, item))

    def test_the_same_id_twice_and_none(self, place: Place) -> None:
        """Each gets its values; no ids, no rows."""
        store, item, other = place.opened(), new_id(), new_id()
        push(store, ITEM_STATISTICS, {item: {"price_28d": 1.0, "popularity_tier": "head"}, other: {"price_28d": 2.0}}, NOW)
        found = store.read(Entity.ITEM, [item, other, item], ["price_28d", "popularity_tier"])
        assert (found.values["price_28d"].tolist(), found.values["popularity_tier"]) == ([1.0, 2.0, 1.0], ["head", None, "head"])  # type: ignore[union-attr]
        assert store.read(Entity.ITEM, []).event_times.shape == (len(ENTITY_VIEWS[Entity.ITEM]), 0)

    def test_late_rows_overwrite_nothing_newer(self, place: Place) -> None:
        """In whatever order rows arrive, the newest stays; of equally old ones the last."""
        store = place.opened()

        @settings(max_examples=10, deadline=None)
        @given(st.permutations(range(4)))
        def holds(order: list[int]) -> None:
            item = new_id()
            for age in order:
                push(store, ITEM_STATISTICS, {item: {"price_28d": float(age)}}, NOW - age * DAY)
            assert price(store, item) == 0.0

        holds()
        item = new_id()
        for amount in (1.0, 2.0):
            push(store, ITEM_STATISTICS, {item: {"price_28d": amount}}, NOW)
        assert price(store, item) == 2.0

    def test_a_batch_keeps_what_is_not_late_in_it(self, place: Place) -> None:
        """One late row holds up none of the others; a view's time is its own."""
        store, late, due = place.opened(), new_id(), new_id()
        push(store, ITEM_STATISTICS, {late: {"price_28d": 9.0}}, NOW)
        push(store, ITEM_STATISTICS, {late: {"price_28d": 1.0}, due: {"price_28d": 1.0}}, NOW - DAY)
        push(store, ITEM_TASTE, {late: row(ITEM_TASTE, 0)}, NOW - 2 * DAY)
        assert (price(store, late), price(store, due)) == (9.0, 1.0)
        assert store.read(Entity.ITEM, [late]).event_times[:, 0].tolist()[1:] == [NOW / 1e6, (NOW - 2 * DAY) / 1e6]

    def test_writers_at_once_lose_nothing(self, place: Place) -> None:
        """Threads push different rows, different views and older and newer versions of one row: the newest of everything is there."""
        shared, own = new_id(), [new_id() for _ in range(4)]

        def write(k: int) -> None:
            store = place.opened()
            for turn in range(10):
                time = NOW - ((turn * 7 + k * 3) % 10) * DAY  # each writer reaches NOW once, at another turn
                push(
                    store,
                    ITEM_STATISTICS,
                    {shared: {"price_28d": (NOW - time) / DAY}, own[k]: {"price_28d": float(turn)}},
                    NOW + turn * 10**6,
                )
                push(store, ITEM_TASTE, {shared: {"taste_at": time}}, time)
                push(store, ITEM_PROFILE, {f"{own[k]}-{turn}": {"title": f"{k} {turn}"}}, NOW)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write, range(4)))
        store = place.opened()
        assert [price(store, item) for item in own] == [9.0] * 4
        assert store.read(Entity.ITEM, [shared], ["taste_at"]).values["taste_at"] == [NOW]
        titles = [f"{own[k]}-{turn}" for k in range(4) for turn in range(10)]
        assert store.read(Entity.ITEM, titles, ["title"]).values["title"] == [f"{k} {turn}" for k in range(4) for turn in range(10)]

    def test_processes_at_once_lose_nothing(self, place: Place) -> None:
        """The same with processes: one pushes ever newer versions of what the other pushes, and each a view of its own."""
        store, item = place.opened(), new_id()
        push(store, ITEM_STATISTICS, {item: {"price_28d": -1.0}}, NOW - DAY)
        command = [sys.executable, "-m", "tests.suites.online_writer", str(place.repo), str(place.home), item]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"
            take_turns(store, item, 0)
        assert other.returncode == 0
        found = place.opened().read(Entity.ITEM, [item], ["price_28d", "title", "taste_at"])
        assert (found.values["price_28d"].tolist(), found.values["title"], found.values["taste_at"]) == ([59.0], ["58"], [59])  # type: ignore[union-attr]

    def test_wrong_rows_are_refused_by_name(self, place: Place) -> None:
        """The view and the feature are named, and nothing is written."""
        store, item = place.opened(), new_id()
        whole = {f.name: [None] for f in ITEM_STATISTICS}
        with pytest.raises(ValueError, match=r"item_statistics: price_28d must be float32: .*'cheap'"):
            store.push(ITEM_STATISTICS, [item], whole | {"price_28d": ["cheap"]}, np.array([NOW]))
        with pytest.raises(ValueError, match="item_statistics: the feature price_28d is missing"):
            store.push(ITEM_STATISTICS, [item], {name: v for name, v in whole.items() if name != "price_28d"}, np.array([NOW]))
        assert states(store, Entity.ITEM, [item]) == [["missing"]] * 3

    def test_a_session_of_days_ago_is_stale(self, place: Place, tmp_path: Path) -> None:
        """By its newest event, whenever that was told and however often the row is pushed again; a late event still gets into it."""
        store, (old, young) = place.opened(), (new_id(), new_id())

        def read() -> tuple[list[str], list[list[int]]]:
            found = store.read(Entity.USER, [old, young], ["recent_times"])
            codes = freshness_codes(found.event_times, LIFETIMES[Entity.USER], NOW / 1e6)[READABLE_VIEWS[Entity.USER].index(USER_SESSION)]
            return [list(Freshness)[c].value for c in codes.tolist()], [list(times) for times in found.values["recent_times"]]

        def click(user: str, days: float) -> Event:
            return Event(f"{user} {days}", EventType.CLICK, (NOW - round(days * DAY)) * 1000, user, "i1")

        with Shop(tmp_path, now=NOW / 1e6, through=store) as shop:
            shop.record(click(old, 2), click(young, 0.5))
            assert read()[0] == ["stale", "fresh"]
            shop.record(click(old, 3), click(young, 0.75))
            shop.stream.overwritten("by others")
            shop.settle()
            seconds = [[(NOW - round(days * DAY)) // 10**6 for days in some] for some in ((2, 3), (0.5, 0.75))]
            assert read() == (["stale", "fresh"], seconds)
            shop.record(click(old, 0.25))
            assert read()[0] == ["fresh", "fresh"]

    def test_every_view_can_be_pushed_and_is_served(self, place: Place) -> None:
        """Each declared view, with the features of the services that serve it."""
        store = place.opened()
        for view in VIEWS:
            key = new_id()
            push(store, view, {key: row(view, 3)}, NOW)
            times = store.read(view.entity, [key]).event_times[:, 0]
            assert (~np.isnan(times)).tolist() == [v is view for v in ENTITY_VIEWS[view.entity]]
        assert all(set(views) <= set(VIEWS) for views in FEATURE_SERVICES.values())
