"""Items asked for before are found without their hashes, and are what they would be with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.snapshot import memo, snapshot
from services.snapshot.memo import Memo
from services.snapshot.snapshot import Snapshot
from services.snapshot.writer import Writer
from tests.services.snapshot.catalogue import any_items, at, marked, marks, same

IDS = [f"i{i}" for i in range(20)]


def build(path: Path, mark: int) -> None:
    with Writer(path) as writer:
        writer.build(IDS, marked(IDS, mark), at(1.0, len(IDS)), {}, as_of=40.0)


@given(lists=st.lists(st.lists(st.sampled_from([*IDS, "nobody", "n\0l"]), min_size=1, max_size=30, unique=True), max_size=8))
def test_a_snapshot_says_the_same_however_often_it_was_asked(tmp_path_factory: pytest.TempPathFactory, lists: list[list[str]]) -> None:
    """One that answered any lists before, and one that answers its first."""
    path = tmp_path_factory.mktemp("memo") / "items"
    with Writer(path) as writer:
        writer.build(IDS, any_items(IDS, 3), at(1.0, len(IDS)), {}, as_of=1.0)
    old = Snapshot.open(path)
    for ids in lists:
        told, fresh = old.gather(ids), Snapshot.open(path).gather(ids)
        assert same(told[0], fresh[0])
        np.testing.assert_array_equal(told[1], fresh[1])
        assert told[2].tolist() == fresh[2].tolist() == [i in IDS for i in ids]


def test_remembered_items_are_not_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second list of the same items needs neither hash nor index."""
    build(tmp_path / "items", 1)
    opened = Snapshot.open(tmp_path / "items")
    first = opened.gather(IDS)
    monkeypatch.setattr(snapshot, "hash_ids", None)  # not to be called
    assert same(opened.gather(IDS)[0], first[0])


def test_a_remembered_row_is_read_anew(tmp_path: Path) -> None:
    """What was pushed after an item was asked for is served, and a new item beside it is found."""
    path = tmp_path / "items"
    build(path, 1)
    opened = Snapshot.open(path)
    assert marks(opened.gather(["i3"])[0]) == [{1.0}]
    with Writer(path) as writer:
        writer.put(["i3", "new"], marked(["i3", "new"], 7), at(2.0, 2), {})
    assert marks(opened.gather(["i3"])[0]) == [{7.0}]
    assert marks(opened.gather(["new", "i3"])[0]) == [{7.0}, {7.0}]


def test_a_remembered_row_that_was_overwritten_is_not_believed(tmp_path: Path) -> None:
    """Its hash is looked at: an item whose row no longer says that it is the item's is unknown."""
    path = tmp_path / "items"
    build(path, 1)
    opened = Snapshot.open(path)
    assert opened.gather(["i3"])[2].tolist() == [True]
    content = path.read_bytes()
    with path.open("r+b") as file:
        for place in range(len(content) - 8):  # wherever the hash stands whole
            if content[place : place + 8] == opened.blocks.entries["rows"]["hash"][4].tobytes():
                file.seek(place)
                file.write(b"\xff" * 8)
    assert opened.gather(["i3"])[2].tolist() == [False]


def test_beyond_its_room_everything_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One item more than fit, and only that is known; a catalogue too large for it is never remembered."""
    monkeypatch.setattr(memo, "MOST", 2)
    small, large = Memo(10), Memo(memo.LARGEST + 1)
    hashes, rows = np.array([5, 7], np.uint64), np.array([1, 2])
    for one in (small, large):
        one.put(["a", "b"], hashes, rows)
    got = small.get(["b", "a"])
    assert got is not None
    assert [part.tolist() for part in got] == [[7, 5], [2, 1]]
    small.put(["c"], hashes[:1], np.array([3]))
    assert [small.get([i]) is None for i in "abc"] == [True, True, False]
    assert large.get(["a"]) is None
