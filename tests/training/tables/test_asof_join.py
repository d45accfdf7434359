"""Training reads what an as-of join written in SQL reads: the newest row not later than the list, unless it is past its lifetime."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranking.assemble import ItemFeatures, UserFeatures, arrays, item_features, user_features
from ranking.features import (
    EMBEDDING_WIDTH,
    ITEM_EMBEDDING,
    ITEM_PROFILE,
    ITEM_REVIEWS,
    ITEM_STATISTICS,
    ITEM_TASTE,
    SIDE_VIEWS,
    USER_BEHAVIOUR,
    USER_PROFILE,
    USER_TASTE,
    VIEWS,
    View,
    stable_key,
)
from ranking.layout import Layout
from tests.training.tables.slices import Slice
from training.dataset import Features, historical, point_in_time
from training.lists.impressions import ads_lists
from training.lists.types import RankingLists
from training.online import apply

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # ibis calls old names of duckdb's API
PLANTED = 7_777_777
LATER = np.timedelta64(1, "us")
WEEK = np.timedelta64(7, "D")


@pytest.fixture(scope="module")
def lists(small: Slice) -> RankingLists:
    """Real lists, at the starts of weeks as they are."""
    return ads_lists(small.canonical, "test", count=14)


def _at(lists: RankingLists, instant: np.datetime64) -> RankingLists:
    return replace(lists, times=np.full(len(lists), instant))


@pytest.fixture(scope="module")
def planted(small: Slice, lists: RankingLists, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The slice's tables, and in each a row a microsecond after the last list for every user and item there is, with values of nobody."""
    layout = Layout(tmp_path_factory.mktemp("planted"))
    shutil.copytree(small.layout.features, layout.features)
    _fill(layout, lists)
    for view in (*VIEWS, *SIDE_VIEWS):
        path = layout.features / f"{view.name}.parquet"
        table = pq.read_table(path)
        extra = table.take(np.unique(table[0].to_numpy().astype(str), return_index=True)[1])  # one row of each entity
        extra = extra.set_column(1, table.field(1), _instants([lists.times.max() + LATER] * len(extra)))
        pq.write_table(pa.concat_tables([table, _spoilt(extra, view)]), path)
    apply(layout)
    return layout


def _fill(layout: Layout, lists: RankingLists) -> None:
    """Sentiments and embeddings of every item, a week before the lists and another week earlier: the slice comes without."""
    now = lists.times.max()
    rows = {
        "item_id": [item for item in lists.items for _ in range(2)],
        "event_timestamp": _instants([now - 2 * WEEK, now - WEEK] * len(lists.items)),
        "review_sentiment": pa.array([0.25, 0.5] * len(lists.items), pa.float32()),
        "reviews": pa.array([1.0, 2.0] * len(lists.items), pa.float32()),
    }
    pq.write_table(pa.table(rows), layout.features / f"{ITEM_REVIEWS.name}.parquet")
    vectors = [[float(of)] * EMBEDDING_WIDTH for _ in lists.items for of in (1, 2)]
    rows = {name: rows[name] for name in ("item_id", "event_timestamp")}
    rows |= {"embedding": pa.array(vectors, pa.list_(pa.float32())), "embedding_of": pa.array([1, 2] * len(lists.items), pa.int64())}
    pq.write_table(pa.table(rows), layout.features / f"{ITEM_EMBEDDING.name}.parquet")


def _spoilt(table: pa.Table, view: View) -> pa.Table:
    """The table with every number and every text of the view replaced."""
    made: dict[str, Any] = {"float32": PLANTED, "int64": PLANTED, "string": "of the future", "int64_list": [PLANTED]}
    for feature in view:
        value = [PLANTED] * 48 if feature.name == "taste" else made.get(feature.dtype, [PLANTED])
        field = table.schema.field(feature.name)
        table = table.set_column(table.column_names.index(feature.name), field, pa.array([value] * len(table), field.type))
    return table


def _instants(times: list[np.datetime64]) -> pa.Array:
    return pa.array(np.array(times, "datetime64[us]")).cast(pa.timestamp("us", tz="UTC"))


def _asof(folder: Path, view: View, ids: list[str], times: list[np.datetime64]) -> list[dict[str, Any]]:
    """The view's values for each (entity, instant), in their order; None where there is no row, or none that is still worth something."""
    key = f"{view.entity}_id"
    asked = pa.table({key: pa.array(ids, pa.string()), "asked_at": _instants(times)})
    alive = f"a.asked_at - s.event_timestamp <= INTERVAL {view.ttl.days} DAY"
    columns = ", ".join(f"CASE WHEN {alive} THEN s.{f.name} END AS {f.name}" for f in view)
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.register("asked", asked.append_column("row", pa.array(range(len(asked)))))
        found = db.execute(f"""
            SELECT {columns} FROM asked a ASOF LEFT JOIN '{folder}/{view.name}.parquet' s
            ON a.{key} = s.{key} AND a.asked_at >= s.event_timestamp ORDER BY a.row""").to_arrow_table()
    return list(found.to_pylist())


def _users(folder: Path, pairs: list[tuple[str, np.datetime64]]) -> list[UserFeatures]:
    """What the SQL says of users at instants; profiles at each user's earliest, as `point_in_time` promises."""
    ids, times = [u for u, _ in pairs], [t for _, t in pairs]
    earliest = {u: min(t for v, t in pairs if v == u) for u in ids}
    views = [(USER_PROFILE, [earliest[u] for u in ids]), (USER_BEHAVIOUR, times), (USER_TASTE, times)]
    parts = [_asof(folder, view, ids, at) for view, at in views]
    return [user_features({k: v for part in row for k, v in part.items()}) for row in zip(*parts, strict=True)]


def _items(folder: Path, pairs: list[tuple[str, np.datetime64]]) -> ItemFeatures:
    ids, times = [i for i, _ in pairs], [t for _, t in pairs]
    earliest: dict[str, np.datetime64] = {}
    for item, at in pairs:
        earliest[item] = min(at, earliest.get(item, at))
    views = [(ITEM_PROFILE, [earliest[i] for i in ids]), (ITEM_STATISTICS, times), (ITEM_TASTE, times)]
    columns = {f.name: [row[f.name] for row in rows] for view, at in views for rows in [_asof(folder, view, ids, at)] for f in view}
    return item_features(np.array([stable_key(i) for i in ids], np.int64), columns)


def _check_same(found: Features, lists: RankingLists, folder: Path) -> tuple[list[UserFeatures], ItemFeatures]:
    """Every value of everybody in the lists is what the SQL says; returns what it says."""
    pairs = sorted(set(zip(lists.user_ids, lists.times, strict=True)))
    users = _users(folder, pairs)
    for (user, at), expected in zip(pairs, users, strict=True):
        _check_equal(found.users.at(user, at), expected, (user, at))
    shown = sorted({(int(c), t) for i, t in enumerate(lists.times) for c in lists.item_codes[lists.offsets[i] : lists.offsets[i + 1]]})
    expected_items = _items(folder, [(lists.items[c], t) for c, t in shown])
    rows = np.array([found.items.rows(t, np.array([c], np.int32))[0] for c, t in shown])
    block = found.items.block.take(rows)
    # Names of categories and the like are no part of what training reads: they are the gateway's.
    _check_equal(replace(block, attribute_keys=expected_items.attribute_keys), expected_items, "items")
    return users, expected_items


def _check_equal(found: Any, expected: Any, what: Any) -> None:
    for (name, ours), theirs in zip(arrays(found).items(), arrays(expected).values(), strict=True):
        assert np.array_equal(ours, theirs), (what, name)
        assert ours.dtype == theirs.dtype, (what, name)


def test_every_value_is_the_independent_joins_at_any_instant(planted: Layout, lists: RankingLists) -> None:
    """Users and items, known and unknown, before all rows, between snapshots and to the microsecond, within their lifetime and past it."""
    random = np.random.default_rng(5)
    week = 7 * 86_400_000_000
    offsets = random.integers(-30 * week, 6 * week, len(lists))
    offsets[:8] = [0, 1, -1, week, 2 * week, 2 * week + 1, -2 * week, 3 * week]  # microseconds
    asked = replace(lists, times=lists.times + offsets.astype("timedelta64[us]"), user_ids=("nobody", *lists.user_ids[1:]))
    users, items = _check_same(point_in_time(planted, [asked]), asked, planted.features)
    assert 0 < sum(len(user.history.keys) > 0 for user in users) < len(users)  # some alive, some not
    assert 0 < (items.tiers != 2).sum() < len(items)


def test_a_value_of_the_future_is_never_seen(planted: Layout, small: Slice, lists: RankingLists) -> None:
    """With a row planted a microsecond after the lists, training reads what it read without; a microsecond later it is all it reads."""
    last = lists.times.max()
    now, later = _at(lists, last), _at(lists, last + LATER)
    users, items = _check_same(point_in_time(planted, [now]), now, small.layout.features)
    assert not any(PLANTED in user.scalars for user in users)
    assert PLANTED not in items.scalars
    seen = point_in_time(planted, [later])
    assert all((seen.users.at(user, last + LATER).scalars == PLANTED).all() for user in later.user_ids)
    assert (seen.items.block.scalars == PLANTED).all()


@pytest.mark.parametrize("view", SIDE_VIEWS, ids=lambda view: view.name)
def test_what_no_model_reads_is_joined_as_of_its_instant_too(planted: Layout, lists: RankingLists, view: View) -> None:
    """Every value at and around the lists' instants is the independent join's; one planted a microsecond later is not seen before it."""
    last = lists.times.max()
    codes = np.unique(lists.item_codes)[:60]
    times = [last, last + LATER, last - WEEK, last - WEEK - LATER, last - 3 * WEEK, last + 2 * WEEK, last + 3 * WEEK]
    pairs = [(item, at) for at in times for item in (*(lists.items[c] for c in codes), "nothing")]
    ids, instants = [item for item, _ in pairs], [at for _, at in pairs]
    found = historical(planted, view, ids, np.array(instants)).to_pylist()
    assert found == _asof(planted.features, view, ids, instants)
    seen = [at > last for at in instants]
    number = next(f.name for f in view if f.dtype.startswith("float32"))
    hit = [value is not None and np.ravel(value)[0] == PLANTED for value in (row[number] for row in found)]
    assert not any(h and not s for h, s in zip(hit, seen, strict=True))
    assert any(hit)
    assert any(row[number] is not None for row, s in zip(found, seen, strict=True) if not s)
