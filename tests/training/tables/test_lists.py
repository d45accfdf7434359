"""Ranking lists: who is in them, and what sampling may and may not do."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.features import stable_key
from ranking.text import query_text
from ranking.types import Surface
from tests.training.tables.slices import Slice
from training.lists.impressions import ads_lists
from training.lists.queries import BEST, DRAWN, OTHERS, search_lists
from training.lists.types import WEEKS, RankingLists, Split, cut, sample_negatives


def _lists(sizes: list[int], seed: int = 0, split: Split = "train") -> RankingLists:
    """Lists of the given sizes with random labels."""
    n, draw = sum(sizes), np.random.default_rng(seed)
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    labels = (draw.random(n) < 0.2).astype(np.int8)
    return RankingLists(
        surface=Surface.ADS,
        split=split,
        times=np.full(len(sizes), np.datetime64("2017-12-04T05:00", "us")),
        weeks=np.full(len(sizes), 50, np.int32),
        user_ids=tuple(f"u{i}" for i in range(len(sizes))),
        queries=("",) * len(sizes),
        offsets=offsets,
        item_codes=np.concatenate([np.arange(s) for s in sizes]).astype(np.int32),
        items=tuple(f"i{i}" for i in range(max(sizes))),
        item_keys=np.array([stable_key(f"i{i}") for i in range(max(sizes))]),
        labels=labels,
        columns={"on_display": draw.random(n).astype(np.float32)},
        retrieval_scores=np.zeros(n, np.float32),
        weights=np.ones(n, np.float32),
        ideal_positives=np.diff(np.concatenate(([0], np.cumsum(labels)))[offsets]),
    )


_SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@given(_SIZES, st.floats(0.01, 1.0), st.integers(0, 99))
def test_negative_sampling_keeps_every_positive_and_weighs_the_kept_negatives(sizes: list[int], rate: float, seed: int) -> None:
    """Positives stay with their weight; a kept negative weighs 1 / rate; order and the ideal do not change."""
    lists = _lists(sizes, seed)
    kept = sample_negatives(lists, rate, seed)
    assert kept.labels.sum() == lists.labels.sum()
    assert np.allclose(kept.weights, np.where(kept.labels == 1, 1.0, np.float32(1 / np.float32(rate))))
    assert np.array_equal(kept.ideal_positives, lists.ideal_positives)
    for i in range(len(lists)):
        before, after = (x.item_codes[x.offsets[i] : x.offsets[i + 1]] for x in (lists, kept))
        assert np.array_equal(after, before[np.isin(before, after)])


@pytest.mark.parametrize("split", ["valid", "test"])
def test_measured_lists_are_never_resampled(split: Split) -> None:
    """Validation and test lists are refused."""
    with pytest.raises(ValueError, match=f"these are {split}"):
        sample_negatives(_lists([5], split=split), 0.5, 0)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_rate_is_refused(rate: float) -> None:
    """The message names the parameter."""
    with pytest.raises(ValueError, match="keep_rate"):
        sample_negatives(_lists([5]), rate, 0)


@given(_SIZES, st.integers(1, 30), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 99))
def test_a_cut_list_holds_the_best_and_a_weighted_draw_of_the_rest(sizes: list[int], n: int, explore: float, seed: int) -> None:
    """Each list has min(n, size) candidates with the best among them, and the weights add up to the size of the uncut list."""
    lists = _lists(sizes, seed, "test")
    scores = np.random.default_rng(seed).random(len(lists.labels)).astype(np.float32)
    short, best = cut(lists, scores, n, explore=explore, seed=seed), round((1 - explore) * n)
    assert np.array_equal(short.ideal_positives, lists.ideal_positives)
    for i, size in enumerate(sizes):
        rows = slice(short.offsets[i], short.offsets[i + 1])
        assert rows.stop - rows.start == min(n, size)
        top = np.argsort(-scores[lists.offsets[i] : lists.offsets[i + 1]], kind="stable")[:best]
        assert set(top) <= set(short.item_codes[rows])
        if n > best or size <= n:
            assert short.weights[rows].sum() == pytest.approx(size, rel=1e-5)


def test_a_cut_reads_no_label() -> None:
    """Turning all labels round changes nothing about which candidates stay."""
    lists = _lists([50, 60], split="test")
    scores = np.random.default_rng(3).random(110).astype(np.float32)
    turned = replace(lists, labels=1 - lists.labels)
    assert np.array_equal(cut(lists, scores, 10).item_codes, cut(turned, scores, 10).item_codes)


def test_selected_lists_are_whole() -> None:
    """Selecting lists keeps their candidates, times and ideals together."""
    lists = _lists([3, 4, 5])
    part = lists.select([2, 0])
    assert part.user_ids == ("u0", "u2")
    assert np.diff(part.offsets).tolist() == [3, 5]
    assert np.array_equal(part.labels, np.concatenate((lists.labels[:3], lists.labels[7:])))


def test_an_ads_list_is_what_was_promoted_where_the_household_shopped(small: Slice) -> None:
    """Candidates, placements and labels of every list equal a plain recount of the source's files, and no list is empty."""
    lists = ads_lists(small.canonical, "test", count=10_000)
    first, last = WEEKS["test"]
    lines = duckdb.sql(
        "SELECT household_id::VARCHAR, week, store_id, product_id::VARCHAR"
        f" FROM '{small.raw}/transactions.parquet' WHERE week BETWEEN {first} AND {last}"
    ).fetchall()
    placed: dict[tuple, dict[str, tuple]] = {}
    for week, store, item, display, mailer in duckdb.sql(f"""
            SELECT week, store_id, product_id::VARCHAR, max(display_location <> '0'), max(mailer_location <> '0')
            FROM '{small.raw}/promotions.parquet' WHERE week BETWEEN {first} AND {last} GROUP BY ALL""").fetchall():
        placed.setdefault((week, store), {})[item] = (display, mailer)
    seen: dict[tuple, dict[str, list[float]]] = {}
    bought: dict[tuple, set[str]] = {}
    for user, week, store, item in lines:
        bought.setdefault((user, week), set()).add(item)
        for name, (display, mailer) in placed.get((week, store), {}).items():
            flags = seen.setdefault((user, week), {}).setdefault(name, [0.0, 0.0])
            flags[:] = [max(flags[0], display), max(flags[1], mailer)]
    assert {(u, int(w)) for u, w in zip(lists.user_ids, lists.weeks, strict=True)} == seen.keys()
    for i, key in enumerate(zip(lists.user_ids, lists.weeks.tolist(), strict=True)):
        rows = slice(lists.offsets[i], lists.offsets[i + 1])
        names = [lists.items[c] for c in lists.item_codes[rows]]
        flags = zip(lists.columns["on_display"][rows].tolist(), lists.columns["in_mailer"][rows].tolist(), strict=True)
        assert dict(zip(names, map(list, flags), strict=True)) == seen[key]
        assert lists.labels[rows].tolist() == [name in bought[key] for name in names]
    assert lists.ideal_positives.sum() == lists.labels.sum()


def test_a_smaller_sample_is_part_of_a_larger_one(small: Slice) -> None:
    """The stable hash decides: ten lists are ten of the twenty, and another seed gives others."""
    ten, twenty, other = (ads_lists(small.canonical, "valid", count=n, seed=s) for n, s in ((10, 0), (20, 0), (10, 1)))
    names = [set(zip(x.user_ids, x.weeks.tolist(), strict=True)) for x in (ten, twenty, other)]
    assert names[0] < names[1]
    assert names[0] != names[2]


def test_a_search_list_answers_a_category_the_household_bought(small: Slice) -> None:
    """Queries are category names; candidates are unique, sold in the eight weeks before; labels and ideals count the week's purchases."""
    lists = search_lists(small.canonical, "valid", count=200)
    assert len(lists) == 200
    c = small.canonical
    category = dict(duckdb.sql(f"SELECT item_id, category FROM '{c}/items.parquet'").fetchall())
    sold: dict[str, set[int]] = {}
    bought: dict[tuple, set[str]] = {}
    for user, item, week in duckdb.sql(f"SELECT user_id, item_id, week FROM '{c}/events.parquet'").fetchall():
        sold.setdefault(item, set()).add(week)
        bought.setdefault((user, week), set()).add(item)
    for i in range(len(lists)):
        rows, week = slice(lists.offsets[i], lists.offsets[i + 1]), int(lists.weeks[i])
        names, basket = [lists.items[x] for x in lists.item_codes[rows]], bought[lists.user_ids[i], week]
        wanted = {item for item in basket if query_text(category[item], "") == lists.queries[i]}
        assert wanted
        assert len(set(names)) == len(names) <= BEST + DRAWN + OTHERS
        assert all(sold[name] & set(range(week - 8, week)) for name in names)
        assert lists.labels[rows].tolist() == [name in basket for name in names]
        assert lists.ideal_positives[i] == len(wanted | (basket & set(names)))
    again = search_lists(small.canonical, "valid", count=200)
    assert np.array_equal(lists.item_codes, again.item_codes)
