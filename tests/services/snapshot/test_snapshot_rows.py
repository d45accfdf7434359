"""What goes into a snapshot comes out of it, and nothing else does."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.assemble import ItemFeatures
from ranking.features import stable_key
from services.snapshot import keys
from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.snapshot import Snapshot
from services.snapshot.table import joined
from services.snapshot.writer import VIEW_COLUMNS, Writer
from tests.services.snapshot.catalogue import VIEWS, any_items, at, marked, marks, same, unknown

IDS = st.lists(st.text(max_size=20).filter(lambda s: "\0" not in s), min_size=1, max_size=30, unique=True)
NAN = float("nan")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot" / "items"


@given(ids=IDS, absent=IDS, seed=st.integers(0, 2**32))
def test_what_goes_in_comes_out_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, ids: list[str], absent: list[str], seed: int) -> None:
    """Features and event times of any bits, in any order, between items that are not there and stay declared defaults."""
    path, rng = tmp_path_factory.mktemp("any") / "items", np.random.default_rng(seed)
    features, times = any_items(ids, seed), rng.random((VIEWS, len(ids)))
    times[rng.random(times.shape) < 0.3] = NAN
    with Writer(path) as writer:
        writer.build(ids, features, times, {}, as_of=1.0)
    stored = dict(zip(ids, (~np.isnan(times).all(axis=0)).tolist(), strict=True))  # one without any event time is unknown
    asked = [str(i) for i in rng.permutation(np.array([*ids, *(a for a in absent if a not in stored)], object))]
    found, event_times, known = Snapshot.open(path).gather(asked)
    assert known.tolist() == [stored.get(i, False) for i in asked]
    expected = [features.take(np.array([ids.index(i)])) if stored.get(i) else unknown([i]) for i in asked]
    assert same(found, joined(expected))
    there = np.stack([times[:, ids.index(i)] if stored.get(i) else np.full(VIEWS, NAN) for i in asked], axis=1)
    np.testing.assert_array_equal(event_times, there)


@given(ids=st.lists(st.text(max_size=40), max_size=20), other=st.lists(st.text(max_size=80), max_size=5), seed=st.integers(0, 2**64 - 1))
def test_an_ids_hash_does_not_depend_on_its_company(ids: list[str], other: list[str], seed: int) -> None:
    """Alone or in a list, beside longer and shorter ones and those with a NUL; equal ids alike, and no two different ones."""
    together = dict(zip([*ids, *other], keys.hash_ids([*ids, *other], seed).tolist(), strict=True))
    assert together == {i: int(keys.hash_ids([i], seed)[0]) for i in together}
    assert all(h == keys.NOWHERE for i, h in together.items() if "\0" in i)
    plain = [h for i, h in together.items() if "\0" not in i]
    assert len(set(plain)) == len(plain)


@given(st.integers(1, 400), st.integers(1, 3), st.integers(0, 2**32))
def test_the_index_finds_what_collides(n: int, homes: int, seed: int) -> None:
    """However many hashes want the same bucket, each is found at its own row, also past the last bucket, and no other is."""
    index = np.zeros((keys.buckets(n), keys.SLOTS), np.uint64)
    rng = np.random.default_rng(seed)
    low = rng.permutation(2 * n).astype(np.uint64) + np.uint64(1)
    hashes = (np.uint64(2**32 - 1) - rng.integers(0, homes, 2 * n).astype(np.uint64) << np.uint64(32)) | low  # the last buckets
    known = np.append(np.uint64(0), hashes[:n])
    keys.fill(hashes[: n // 2], index)
    for row in range(n // 2 + 1, n + 1):
        index[keys.free(known[row], index)] = keys.slots(known[row], np.uint64(row))
    assert keys.find(hashes, index, known).tolist() == [*range(1, n + 1), *[0] * n]
    assert keys.rows_in(index).tolist() == list(range(1, n + 1))


@given(st.integers(1, 400), st.integers(0, 2**32))
def test_a_guess_is_right_or_none(n: int, seed: int) -> None:
    """Where every hash stands in its own bucket the guess is what is found; where one does not, there is no guess."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(1, 2**63, n).astype(np.uint64) * np.uint64(2) + np.uint64(1)
    index = np.zeros((keys.buckets(n), keys.SLOTS), np.uint64)
    keys.fill(hashes, index)
    guessed, found = keys.guess(hashes, index), keys.find(hashes, index, np.append(np.uint64(0), hashes))
    assert guessed is None or guessed.tolist() == found.tolist()
    assert keys.guess(np.append(hashes, np.uint64(2)), index) is None


def test_half_a_hash_is_not_the_hash() -> None:
    """A hash that has its bucket and its lower half in common with one that is there is not found."""
    there, other = np.array([5 << 33 | 7], np.uint64), np.array([1 << 32 | 7], np.uint64)
    index = np.zeros((keys.buckets(2), keys.SLOTS), np.uint64)
    keys.fill(there, index)
    assert keys.guess(other, index) is not None
    assert keys.find(other, index, np.append(np.uint64(0), there)).tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9), st.integers(0, 2**VIEWS - 1)), max_size=40))
def test_put_keeps_the_newest_of_each_view(tmp_path_factory: pytest.TempPathFactory, updates: list[tuple[int, int, int]]) -> None:
    """Whatever order rows come in, a view holds what came last of those with its largest event time; others are not touched."""
    path = tmp_path_factory.mktemp("put") / "items"
    model: dict[str, list[tuple[float, ItemFeatures]]] = {}
    with Writer(path, spare=0.0) as writer:
        writer.build(["i0"], marked(["i0"], 1), at(1.0, 1), {}, as_of=0.0)
        model["i0"] = [(1.0, marked(["i0"], 1))] * VIEWS
        for mark, (i, when, views) in enumerate(updates, 2):
            item, given_to = f"i{i}", [bool(views >> v & 1) for v in range(VIEWS)]
            writer.put([item], marked([item], mark), np.where(given_to, float(when), NAN)[:, None], {})
            if any(given_to):
                held, new = model.get(item, [(NAN, unknown([item]))] * VIEWS), (float(when), marked([item], mark))
                model[item] = [new if due and not when < old[0] else old for due, old in zip(given_to, held, strict=True)]
        snapshot = Snapshot.open(path)
    asked = [f"i{i}" for i in range(13)]
    found, times, known = snapshot.gather(asked)
    assert known.tolist() == [item in model for item in asked]
    for row, item in enumerate(asked):
        expected = unknown([item])
        for (_, stored), (columns, scalars) in zip(model.get(item, []), VIEW_COLUMNS, strict=False):
            expected.scalars[:, scalars] = stored.scalars[:, scalars]
            for name in columns:
                getattr(expected, name)[:] = getattr(stored, name)
        assert same(found.take(np.array([row])), expected)
        np.testing.assert_array_equal(times[:, row], [t for t, _ in model.get(item, [(NAN, None)] * VIEWS)])


def test_every_column_belongs_to_one_view() -> None:
    """What `put` copies for all views together is everything an item has but its key."""
    columns = [name for names, _ in VIEW_COLUMNS for name in names]
    assert sorted([*columns, "keys", "scalars"]) == sorted(f.name for f in fields(ItemFeatures))
    places = sorted(int(i) for _, scalars in VIEW_COLUMNS for i in scalars)
    assert places == list(range(unknown(["i"]).scalars.shape[1]))


def test_a_full_file_makes_room(path: Path) -> None:
    """More new rows than a file has room for: it is made anew, larger, as often as that takes, and nothing is lost."""
    ids = [f"item {i}" for i in range(700)]
    features = any_items(ids, 7)
    with Writer(path) as writer:
        writer.build(ids[:10], features.take(np.arange(10)), at(1.0, 10), {}, as_of=3.0, source="feast")
        first = Snapshot.open(path)
        writer.put(ids[10:], features.take(np.arange(10, 700)), at(1.0, 690), {})
        now = writer.snapshot
    assert now is not None
    assert now.header.generation > 2
    assert (now.as_of, now.header.source, len(now), sorted(now.ids())) == (3.0, "feast", 700, sorted(ids))
    assert same(Snapshot.open(path).gather(ids)[0], features)
    assert first.gather(ids)[2].sum() >= 10  # the old file is read by whoever has it


def test_what_is_equal_is_stored_once(path: Path) -> None:
    """A hundred items of one text and one group, without taste: one entry of each beside those of the unknown item."""
    ids = [f"i{i}" for i in range(100)]
    with Writer(path) as writer:
        writer.build(ids, replace(any_items(ids, 1), **shared(ids)), at(5.0, 100), {}, as_of=0.0)
        state = writer.snapshot.blocks.state  # type: ignore[union-attr]
    assert [int(state[name][0]) for name in ("texts", "groups", "tastes", "times")] == [2, 2, 1, 2]


def shared(ids: list[str]) -> dict[str, np.ndarray]:
    one, blank = marked(ids, 3), unknown(ids)
    columns = ("token_ids", "text_digests", "category_keys", "type_keys", "maker_keys", "attribute_keys")
    return {name: getattr(one, name) for name in columns} | {name: getattr(blank, name) for name in ("taste", "taste_at")}


def test_names_of_groups_come_with_the_items(path: Path) -> None:
    """Names that were built in, and those put later, before and after the file grew; a key nobody named is no name."""
    sellers = [f"seller {i}" for i in range(300)]
    items = unknown(sellers)
    items.attribute_keys[:, 0] = [stable_key(s) for s in sellers]
    names = {stable_key(s): s for s in sellers}
    with Writer(path) as writer:
        writer.build(sellers[:5], items.take(np.arange(5)), at(1.0, 5), names, as_of=0.0)
        assert len(writer.snapshot.names) == 5  # type: ignore[union-attr]  # those of no item stay out
        for i in range(5, 300):
            writer.put(sellers[i : i + 1], items.take(np.array([i])), at(1.0, 1), names)
    snapshot = Snapshot.open(path)
    assert dict(snapshot.names) == names
    assert [snapshot.names[k] for k in (*names, 0)] == [*sellers, ""]
    with pytest.raises(KeyError):
        snapshot.names[5]


def test_only_unique_items_with_small_tokens_are_built(path: Path) -> None:
    """An item twice, or a token id beyond 16 bits, is an error that leaves what was there."""
    large = unknown(["a"])
    large.token_ids[0, 0] = 70_000
    with Writer(path) as writer:
        writer.build(["a"], marked(["a"], 1), at(1.0, 1), {}, as_of=0.0)
        with pytest.raises(ValueError, match="stands there twice"):
            writer.build(["a", "a"], marked(["a", "a"], 1), at(1.0, 2), {}, as_of=0.0)
        for write in (lambda: writer.build(["a"], large, at(2.0, 1), {}, as_of=0.0), lambda: writer.put(["a"], large, at(2.0, 1), {})):
            with pytest.raises(ValueError, match="token ids must be 0 to 65535, got 0 to 70000"):
                write()
    assert marks(Snapshot.open(path).gather(["a"])[0]) == [{1.0}]


def test_an_id_with_a_nul_is_left_to_the_store(path: Path) -> None:
    """It is neither built nor put nor found, and its neighbours are."""
    ids = ["a", "a\0", "\0"]
    with Writer(path) as writer:
        writer.build(ids, marked(ids, 1), at(1.0, 3), {}, as_of=0.0)
        writer.put(ids, marked(ids, 1), at(2.0, 3), {})
    assert Snapshot.open(path).gather(ids)[2].tolist() == [True, False, False]
    assert Snapshot.open(path).gather([])[2].tolist() == []


def test_nothing_can_be_put_where_nothing_was_built(path: Path) -> None:
    """The error names the file and says why."""
    with Writer(path) as writer, pytest.raises(InvalidSnapshotError, match=r"items: .*No such file"):
        writer.put(["a"], marked(["a"], 1), at(1.0, 1), {})


def test_as_of_can_be_confirmed(path: Path) -> None:
    """Found unchanged, the snapshot is as young as the look, for readers that have it open too."""
    with Writer(path) as writer:
        writer.build(["a"], marked(["a"], 1), at(1.0, 1), {}, as_of=10.0)
        reader = Snapshot.open(path)
        writer.confirm(20.0)
    assert reader.as_of == 20.0
