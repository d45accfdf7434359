"""A file that another program overwrites, truncates or deletes where it is mapped: no reader hangs or believes it, and it is made anew."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.snapshot import keys
from services.snapshot.latest import AHEAD_S, Latest
from services.snapshot.layout import PAGE, SHARED
from services.snapshot.snapshot import Snapshot
from services.snapshot.writer import Writer
from tests.services.snapshot.catalogue import at, marked, marks, same, unknown

IDS = [f"i{i}" for i in range(20)]
AS_OF, ROWS, TEXTS = 8, 16, 24  # where these stand on the second page


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "items"
    build(path, 1)
    return path


def build(path: Path, mark: int, *, as_of: float = 40.0) -> None:
    with Writer(path, clock=lambda: 50.0) as writer:
        writer.build(IDS, marked(IDS, mark), at(1.0, len(IDS)), {}, as_of=as_of)


def overwrite(path: Path, at_byte: int, content: bytes) -> None:
    """In place, as a program does that opens the file for writing."""
    with path.open("r+b") as file:
        file.seek(at_byte)
        file.write(content)


def polled(path: Path, recheck_s: float = 60.0) -> Latest:
    latest = Latest(path, clock=lambda: 100.0, recheck_s=recheck_s)
    latest.poll()
    assert latest.current is not None
    return latest


@given(seed=st.integers(0, 2**32), n=st.integers(1, 50), size=st.integers(1, 8), full=st.floats(0.0, 1.0))
def test_any_index_is_searched_to_an_end(seed: int, n: int, size: int, full: float) -> None:
    """Whatever bytes it holds, a row is found only where that hash is stored and the row is among those there are."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, 2**64, (1 << size, keys.SLOTS), np.uint64)
    hashes = rng.integers(1, 2**64, n, np.uint64) | np.uint64(1)
    known = np.append(np.uint64(0), hashes[: n // 2])
    near = rng.random(index.shape) < full  # slots that look like one of the hashes, with any row
    index[near] = keys.slots(rng.choice(hashes, int(near.sum())), rng.integers(0, 2 * n + 2, int(near.sum()), np.uint64))
    found = keys.find(hashes, index, known)
    assert all(row == 0 or (row < len(known) and known[row] == h) for row, h in zip(found.tolist(), hashes.tolist(), strict=True))


@given(seed=st.integers(0, 2**32), begin=st.integers(0, 40), pages=st.integers(1, 40))
def test_any_bytes_are_gathered_to_an_end(tmp_path_factory: pytest.TempPathFactory, seed: int, begin: int, pages: int) -> None:
    """Random pages anywhere behind the header, the counts too: a gather ends, and knows only rows that are stored."""
    path = tmp_path_factory.mktemp("any") / "items"
    build(path, 1)
    snapshot, rng = Snapshot.open(path), np.random.default_rng(seed)
    begin = min(PAGE * (1 + begin), path.stat().st_size - PAGE)
    overwrite(path, begin, rng.bytes(min(PAGE * pages, path.stat().st_size - begin)))
    items, times, known = snapshot.gather([*IDS, "unheard-of"])
    assert len(items) == len(known) == times.shape[1] == len(IDS) + 1
    assert not known[-1]
    stored = snapshot.blocks.entries["rows"]["hash"]
    hashes = keys.hash_ids(IDS, snapshot.header.seed)
    assert set(hashes[known[:-1]].tolist()) <= set(stored.tolist())


def test_a_row_that_points_beyond_what_is_filled_is_unknown(path: Path) -> None:
    """Whichever block it points into; its neighbours are read, and it has what nobody has."""
    for name in SHARED:
        build(path, 1)
        snapshot = Snapshot.open(path)
        with Writer(path) as writer:
            assert writer.snapshot is not None
            blocks = writer.snapshot.blocks
            blocks.entries["rows"][name][3] = int(blocks.state[name][0])
        items, times, known = snapshot.gather(IDS)
        assert known.tolist() == [i != 2 for i in range(len(IDS))]  # row 0 is nobody's
        assert same(items.take(np.array([2])), unknown(IDS[2:3]))
        assert np.isnan(times[:, 2]).all()


OVERWRITTEN: dict[str, tuple[int, bytes]] = {
    "header": (0, b"\xa5" * PAGE),
    "magic": (0, b"NOTITEMS"),
    "header's text": (40, b"\xa5"),
    "header and more": (0, b"\xa5" * PAGE * 3),
    "too many rows": (PAGE + ROWS, b"\xff" * 8),
    "too few rows": (PAGE + ROWS, b"\1" + b"\0" * 7),
    "too many texts": (PAGE + TEXTS, b"\xff" * 8),
    "no instant": (PAGE + AS_OF, b"\xff" * 8),
}


@pytest.mark.parametrize(("at_byte", "content"), OVERWRITTEN.values(), ids=OVERWRITTEN)
def test_one_overwritten_in_place_is_let_go(path: Path, at_byte: int, content: bytes) -> None:
    """The next look drops it, counts it once and says why; a good file is taken up, and a writer notices it too."""
    latest = polled(path)
    with Writer(path) as writer:
        assert writer.standing()
        overwrite(path, at_byte, content)
        for _ in range(3):
            latest.poll()
        assert (latest.current, latest.refused) == (None, 1)
        assert latest.problem
        assert latest.age_s == float("inf")
        assert not writer.standing()
        assert writer.snapshot is None
        assert writer.problem.startswith(f"{path}: ")
        writer.build(IDS, marked(IDS, 2), at(1.0, len(IDS)), {}, as_of=40.0)
        assert writer.standing()
    latest.poll()
    assert latest.current is not None
    assert (latest.refused, latest.problem) == (1, "")
    assert marks(latest.current.gather(IDS)[0]) == [{2.0}] * len(IDS)


@pytest.mark.parametrize("length", [0, PAGE, 3 * PAGE])
def test_one_truncated_in_place_is_let_go_untouched(path: Path, length: int) -> None:
    """Its length is looked at before any page of it, by readers and by the writer: a page that is gone would end the process."""
    latest = polled(path)
    with Writer(path) as writer:
        os.truncate(path, length)
        latest.poll()
        assert (latest.current, latest.refused) == (None, 1)
        assert not writer.standing()
        writer.build(IDS, marked(IDS, 2), at(1.0, len(IDS)), {}, as_of=40.0)
    latest.poll()
    assert latest.current is not None


def test_one_truncated_after_it_was_deleted_is_let_go(path: Path) -> None:
    """The name is not needed to see that what is mapped has shrunk."""
    latest = polled(path)
    with path.open("r+b") as file:
        path.unlink()
        file.truncate(PAGE)
    latest.poll()
    assert (latest.current, latest.refused) == (None, 1)


@pytest.mark.parametrize("put", [False, True])
def test_rows_overwritten_in_place_are_found_out(path: Path, *, put: bool) -> None:
    """A file that was written to is read again after a while: one bit of a row nobody updated is wrong, or pointers of an updated one."""
    if put:
        with Writer(path) as writer:
            writer.put(IDS[:1], marked(IDS[:1], 3), at(2.0, 1), {})
    latest = polled(path, recheck_s=0.0)
    held = latest.current
    os.utime(path, ns=(1, 1))  # written to, and still good
    latest.poll()
    assert (latest.current, latest.refused) == (held, 0)
    begin = 2 * PAGE if put else path.stat().st_size - 1  # of the index, or of the last block
    overwrite(path, begin, b"\xa5" * (PAGE if put else 1))
    os.utime(path, ns=(2, 2))
    latest.poll()
    assert (latest.current, latest.refused) == (None, 1)


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [deleted, replaced])
def test_a_writer_notices_that_its_file_lost_its_name(path: Path, change: Callable[[Path], None]) -> None:
    """What it has goes on being read, and the next build takes the name again."""
    with Writer(path) as writer:
        change(path)
        assert not writer.standing()
        assert writer.snapshot is not None
        writer.build(IDS, marked(IDS, 2), at(1.0, len(IDS)), {}, as_of=40.0)
        assert writer.standing()
        assert Snapshot.open(path).header.generation == 2


@pytest.mark.parametrize(("ahead", "age"), [(0.0, 0.0), (AHEAD_S, 0.0), (AHEAD_S + 1.0, float("inf")), (-5.0, 5.0)])
def test_a_time_to_come_is_not_believed(path: Path, ahead: float, age: float) -> None:
    """A little ahead of the clock is as good as now; further, its age is not known and counts as without end."""
    build(path, 1, as_of=100.0 + ahead)
    assert polled(path).age_s == age
