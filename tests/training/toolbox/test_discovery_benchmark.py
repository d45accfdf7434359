"""The discovery part of the benchmark on made-up purchases: two circles of households that buy of two shelves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranking.features import stable_key
from ranking.types import Surface
from training.discovery import METHODS
from training.lists.types import RankingLists
from training.toolbox import discovery
from training.toolbox.ads_data import FirstPurchases
from training.toolbox.discovery import POPULARITY, Lines

USERS, ITEMS = 60, 120
NOW = np.datetime64("2017-11-06", "us")
SHELF = ITEMS // 2


@pytest.fixture(scope="module")
def purchases() -> Lines:
    """Each household bought 25 of its circle's 60 items in 2 trips, at any time in the half year before now."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(USERS), 25)
    items = np.concatenate([rng.choice(SHELF, 25, replace=False) + SHELF * (u % 2) for u in range(USERS)])
    trips = NOW - rng.integers(1, 182 * 86_400, (USERS, 2)).astype("timedelta64[s]")
    times = trips[users, np.tile(np.arange(25) % 2, USERS)]
    order = np.argsort(times, kind="stable")
    return Lines(users[order], items[order], times[order].astype("datetime64[us]"))


@pytest.fixture(scope="module")
def lists(purchases: Lines) -> RankingLists:
    """Every item is promoted to everybody, and bought by all of the circle that had not bought it: what there is to discover."""
    labels = np.zeros((USERS, ITEMS), np.int8)
    for u in range(USERS):
        labels[u, SHELF * (u % 2) : SHELF * (u % 2) + SHELF] = 1
    return RankingLists(
        surface=Surface.ADS,
        split="valid",
        times=np.full(USERS, NOW),
        weeks=np.full(USERS, 45, np.int32),
        user_ids=tuple(map(str, range(USERS))),
        queries=("",) * USERS,
        offsets=np.arange(USERS + 1) * ITEMS,
        item_codes=np.tile(np.arange(ITEMS, dtype=np.int32), USERS),
        items=tuple(map(str, range(ITEMS))),
        item_keys=np.array([stable_key(str(i)) for i in range(ITEMS)]),
        labels=labels.ravel(),
        columns={},
        retrieval_scores=np.zeros(USERS * ITEMS, np.float32),
        weights=np.ones(USERS * ITEMS, np.float32),
        ideal_positives=labels.sum(axis=1).astype(np.int64),
    )


def test_every_method_finds_what_its_circle_buys(purchases: Lines, lists: RankingLists) -> None:
    """All methods are rows, held against popularity, which knows no circles; each puts the own circle's 35 new items first."""
    pairs = np.sort(purchases.users * ITEMS + purchases.items)
    bought = FirstPurchases({str(u): u for u in range(USERS)}, pairs, np.full(len(pairs), NOW - np.timedelta64(1, "D")), ITEMS)
    outcomes, figures = discovery.compare(lists, purchases, bought, seed=0, width=4)
    assert [o.method for o in outcomes] == [POPULARITY, *METHODS]
    assert figures == {}
    plain = outcomes[0].figure("recall50_new")[0]
    assert plain is not None
    assert plain < 0.75  # 50 places for 95 new items of both circles alike: about 50 / 95
    for outcome in outcomes[1:]:
        assert outcome.figure("recall50_new")[0] > 0.85, outcome.method  # type: ignore[operator]
        assert outcome.figure("recall50_new_gain")[1] > 0.0, outcome.method  # type: ignore[operator]


def test_purchases_at_or_after_the_list_are_not_seen(purchases: Lines) -> None:
    """`before` is strict: a line at the instant itself belongs to the future."""
    at = purchases.times[100]
    users, items, ages = purchases.before(at)
    assert len(users) == len(items) == len(ages) == int((purchases.times < at).sum())
    assert (ages > 0).all()


def test_lines_are_the_purchases_of_the_canonical_events_by_time(tmp_path: Path) -> None:
    """Other events are none; lines before an instant have ages in weeks, and those of one instant one order, whatever the file's."""
    day = np.timedelta64(1, "D")
    pq.write_table(
        pa.table(
            {
                "user_code": pa.array([1, 0, 0, 2], pa.int32()),
                "item_code": pa.array([5, 7, 3, 4], pa.int32()),
                "event_time": pa.array(np.array([NOW - 7 * day, NOW - 14 * day, NOW - 14 * day, NOW]), pa.timestamp("us", tz="UTC")),
                "event_type": ["purchase", "purchase", "purchase", "impression"],
            }
        ),
        tmp_path / "events.parquet",
    )
    lines = Lines.of(tmp_path)
    users, items, ages = lines.before(NOW)
    assert (users.tolist(), items.tolist(), ages.tolist()) == ([0, 0, 1], [3, 7, 5], [2.0, 2.0, 1.0])
    assert len(lines.before(NOW - 7 * day)[0]) == 2
