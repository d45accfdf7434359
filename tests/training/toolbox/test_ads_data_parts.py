"""The ads data on disk, from made-up features: no Feast, no canonical tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranking.assemble import item_features, user_features
from ranking.features import ITEM_SCALARS, USER_SCALARS, stable_key
from ranking.layout import Layout
from ranking.types import TIERS, Surface
from training.dataset import Features, ItemTable, UserTable, assemble_lists
from training.lists.types import RankingLists, sample_negatives
from training.tables.tokens import Tokens
from training.toolbox import ads_data
from training.toolbox.ads_data import FirstPurchases, Part

ITEMS, WEEKS, USERS = 40, 3, 4
TIMES = np.array(["2017-11-06", "2017-11-13", "2017-11-20"], "datetime64[us]")


def _features(rng: np.random.Generator) -> Features:
    keys = np.array([stable_key(str(i)) for i in range(ITEMS)])
    users = {}
    for user in range(USERS):
        for time in TIMES:
            history = rng.choice(ITEMS, 12, replace=False)
            values = {name: float(rng.random()) for name in USER_SCALARS}
            lists = {"history_item_keys": keys[history], "history_counts": rng.random(12), "history_days": rng.random(12)}
            users[str(user), time] = user_features(values | lists)
    columns = {name: rng.random(ITEMS * WEEKS).astype(np.float32) for name in ITEM_SCALARS}
    columns["popularity_tier"] = [TIERS[c] for c in rng.integers(0, 3, ITEMS * WEEKS)]
    where = {time: np.arange(ITEMS, dtype=np.int32) + week * ITEMS for week, time in enumerate(TIMES)}
    return Features(UserTable(users), ItemTable(item_features(np.tile(keys, WEEKS), columns), where))


def _lists(rng: np.random.Generator, split: str = "test") -> RankingLists:
    week = np.repeat(np.arange(WEEKS), USERS)
    codes = [np.sort(rng.choice(ITEMS, rng.integers(5, 30), replace=False)) for _ in week]
    offsets = np.concatenate(([0], np.cumsum([len(c) for c in codes])))
    n = int(offsets[-1])
    labels = (rng.random(n) < 0.2).astype(np.int8)
    return RankingLists(
        surface=Surface.ADS,
        split=split,  # type: ignore[arg-type]
        times=TIMES[week],
        weeks=week.astype(np.int32),
        user_ids=tuple(str(u) for u in np.tile(np.arange(USERS), WEEKS)),
        queries=("",) * len(week),
        offsets=offsets,
        item_codes=np.concatenate(codes).astype(np.int32),
        items=tuple(str(i) for i in range(ITEMS)),
        item_keys=np.array([stable_key(str(i)) for i in range(ITEMS)]),
        labels=labels,
        columns={name: (rng.random(n) < 0.5).astype(np.float32) for name in ("on_display", "in_mailer")},
        retrieval_scores=np.zeros(n, np.float32),
        weights=np.ones(n, np.float32),
        ideal_positives=np.add.reduceat(labels, offsets[:-1]).astype(np.int64),
    )


def _bought(rng: np.random.Generator) -> FirstPurchases:
    """A third of all pairs of household and item, each first bought at the start of some week."""
    pairs = np.flatnonzero(rng.random(USERS * ITEMS) < 0.3)
    return FirstPurchases({str(u): u for u in range(USERS)}, pairs, TIMES[rng.integers(0, WEEKS, len(pairs))], ITEMS)


@pytest.fixture
def written(tmp_path: Path) -> tuple[RankingLists, Features, Part]:
    rng = np.random.default_rng(0)
    lists, features = _lists(rng), _features(rng)
    ads_data.save(tmp_path / "test", lists, features, _bought(rng))
    return lists, features, ads_data.load(tmp_path / "test")


def test_rows_are_those_the_pipeline_assembles(written: tuple[RankingLists, Features, Part]) -> None:
    """Written week by week, the rows equal `assemble_lists` of all lists at once, bit for bit, and so do the tiers."""
    lists, features, part = written
    whole = assemble_lists(lists, features, Tokens())
    assert part.x.dtype == np.float32
    assert np.array_equal(part.x, whole.x)
    assert np.array_equal(part.tiers, whole.tiers)
    assert np.array_equal(part.labels, lists.labels)
    assert np.array_equal(part.offsets, lists.offsets)


def test_a_repeat_was_bought_before_the_list_ever(written: tuple[RankingLists, Features, Part]) -> None:
    """An item is new to the household if no purchase of it, however old, came before the list; one at its instant is not before."""
    lists, _, part = written
    rng = np.random.default_rng(0)
    _lists(rng), _features(rng)  # the draws before it
    bought = _bought(rng)
    first = dict(zip(bought.pairs.tolist(), bought.times, strict=True))
    expected = [
        (pair := int(lists.user_ids[i]) * ITEMS + int(lists.item_codes[row])) in first and first[pair] < lists.times[i]
        for i in range(len(lists))
        for row in range(lists.offsets[i], lists.offsets[i + 1])
    ]
    assert part.repeat.tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_rows_stay_on_disk_until_they_are_read(written: tuple[RankingLists, Features, Part]) -> None:
    """Arrays are memory maps, and the chunks they are read in are whole lists that cover every row once."""
    _, _, part = written
    assert isinstance(part.x, np.memmap)
    chunks = list(part.chunks(rows=50))
    assert np.array_equal(np.concatenate([np.arange(c.start, c.stop) for c in chunks]), np.arange(len(part.labels)))
    assert {c.stop for c in chunks} <= set(part.offsets.tolist())
    assert all(c.stop - c.start >= 50 for c in chunks[:-1])


def test_lists_are_measured_whole_or_not_at_all(written: tuple[RankingLists, Features, Part], tmp_path: Path) -> None:
    """The ideal of a whole list counts all its positives; lists that lost negatives are refused."""
    lists, features, part = written
    assert np.array_equal(part.eval_lists().ideal_positives, lists.ideal_positives)
    train = _lists(np.random.default_rng(1), "train")
    ads_data.save(tmp_path / "train", sample_negatives(train, 0.5, 0), features, _bought(np.random.default_rng(1)), 0.5)
    thinned = ads_data.load(tmp_path / "train")
    assert thinned.negatives_rate == 0.5
    assert thinned.labels.sum() == train.labels.sum()
    with pytest.raises(ValueError, match=r"these kept 0\.5 of their negatives"):
        thinned.eval_lists()


def test_some_lists_are_whole_and_spread(written: tuple[RankingLists, Features, Part]) -> None:
    """A few of the lists come from all weeks, each with all its rows."""
    _, _, part = written
    some = part.some(4)
    assert set(some.weeks) == set(part.weeks)
    for i in range(len(some)):
        rows = some.x[some.offsets[i] : some.offsets[i + 1]]
        assert any(np.array_equal(rows, part.x[part.offsets[j] : part.offsets[j + 1]]) for j in range(len(part)))
    assert part.some(len(part)) is part


def test_without_data_the_message_says_what_to_run(tmp_path: Path) -> None:
    """An empty state directory is refused with the command that fills it."""
    with pytest.raises(FileNotFoundError, match="longtail data prepare completejourney"):
        ads_data.prepare(Layout(tmp_path))
