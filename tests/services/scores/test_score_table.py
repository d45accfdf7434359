"""The score table: what it says is what was put for this very key, whatever other processes do to it meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.scores import file
from services.gateway.scores.elsewhere import awaited
from services.gateway.scores.file import opened
from services.gateway.scores.table import CLAIM_S, WAYS, WORDS, Asked, ScoreTable
from tests.services.scores.score_hammer import asked, score

ROOT = Path(__file__).resolve().parents[3]
ICE = Asked("bert", 1, "sha", "ice")


def digests(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def hammer(path: Path, *numbers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.services.scores.score_hammer", str(path), *map(str, numbers)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(-(2**63), 2**63 - 1), max_size=9)), max_size=40), st.integers(1, 40))
def test_it_never_lies_and_never_grows(puts: list[tuple[int, set[int]]], capacity: int) -> None:
    """Every key is found with its own score or not at all, also where there is room for a fraction of them."""
    table = ScoreTable.private(capacity)
    assert len(table) < capacity + WAYS
    for question, some in puts:
        texts = digests(*some)
        table.put(asked(question), texts, score(question, texts))
        for other in range(6):
            said = table.get(asked(other), texts)
            assert (np.isnan(said) | (said == score(other, texts))).all()


@given(st.lists(st.tuples(st.integers(0, WORDS - 1), st.integers(0, 15), st.integers(0, 15)), max_size=60))
def test_words_of_different_entries_are_no_entry(mixed: list[tuple[int, int, int]]) -> None:
    """However words are copied between entries, as torn writes would, each key has its own score or none."""
    words = np.zeros((WORDS, 2, WAYS), np.uint64)
    table, texts = ScoreTable(words), np.arange(12)
    table.put(asked(0), texts, score(0, texts))
    flat = words.reshape(WORDS, -1)
    for word, source, target in mixed:
        flat[word, target] = flat[word, source]
        said = table.get(asked(0), texts)
        assert (np.isnan(said) | (said == score(0, texts))).all()


@given(st.binary(min_size=8, max_size=8), st.integers(0, WORDS * WAYS - 1))
def test_a_damaged_word_hides_its_entry(noise: bytes, at: int) -> None:
    """Any value in place of any word of a full set: keys have their score or none."""
    words = np.zeros((WORDS, 1, WAYS), np.uint64)
    table, texts = ScoreTable(words), np.arange(WAYS)
    table.put(asked(0), texts, score(0, texts))
    words.reshape(-1)[at] = np.frombuffer(noise, np.uint64)[0]
    said = table.get(asked(0), texts)
    assert (np.isnan(said) | (said == score(0, texts))).all()


def test_everything_a_score_depends_on_is_in_its_key() -> None:
    """Another model, version, model file, query or item text has no score."""
    table = ScoreTable.private(1000)
    table.put(ICE, digests(7), np.array([0.5]))
    assert table.get(ICE, digests(7, 8))[0] == 0.5
    assert np.isnan(table.get(ICE, digests(8)))
    for other in (ICE._replace(model="b"), ICE._replace(version=2), ICE._replace(digest="x"), ICE._replace(text="ic")):
        assert np.isnan(table.get(other, digests(7)))


def test_nan_is_not_remembered() -> None:
    """A text without a score is asked for again."""
    table = ScoreTable.private(1000)
    table.put(ICE, digests(1, 2), np.array([np.nan, 0.25]))
    assert np.isnan(table.get(ICE, digests(1, 2))).tolist() == [True, False]


def test_the_entry_used_longest_ago_goes() -> None:
    """A full set of 8: what was read since stays when 7 more come, also after the clock was set back by a day."""
    clock = Clock()
    table, texts = ScoreTable.private(WAYS, clock=clock), np.arange(WAYS)
    table.put(asked(0), texts, score(0, texts))
    for jump in (3600.0, -86_400.0):
        clock.now += jump
        assert table.get(asked(0), digests(3))[0] == score(0, digests(3))[0]
        for i in range(100, 100 + WAYS - 1):
            clock.now += 1
            table.put(asked(1), digests(i), score(1, digests(i)))
        assert table.get(asked(0), digests(3))[0] == score(0, digests(3))[0]
        assert np.isnan(table.get(asked(0), digests(4)))
        texts = np.arange(100, 100 + WAYS - 1)


def test_a_full_list_fits_into_an_empty_set() -> None:
    """Texts of one put that share a set do not take each other's place."""
    table, texts = ScoreTable.private(WAYS), np.arange(WAYS)
    table.put(asked(0), texts, score(0, texts))
    assert (table.get(asked(0), texts) == score(0, texts)).all()


def test_claims_are_seen_by_others_until_they_are_taken_back_met_or_old() -> None:
    """The claimant itself sees none; a score takes a claim's place; one older than `CLAIM_S` is nobody's."""
    words, clock = np.zeros((WORDS, 4, WAYS), np.uint64), Clock()
    ours, theirs = (ScoreTable(words, clock=clock, pid=pid) for pid in (11, 2**22 - 1))
    ours.claim(ICE, digests(1, 2, 3))
    assert theirs.claimants(ICE, digests(1, 2, 3, 4)).tolist() == [11, 11, 11, 0]
    assert ours.claimants(ICE, digests(1, 2, 3)).tolist() == [0, 0, 0]
    assert np.isnan(theirs.get(ICE, digests(1, 2, 3))).all()
    ours.put(ICE, digests(1), np.array([0.5]))
    ours.disclaim(ICE, digests(1, 2))
    assert theirs.claimants(ICE, digests(1, 2, 3)).tolist() == [0, 0, 11]
    assert theirs.get(ICE, digests(1))[0] == 0.5
    theirs.disclaim(ICE, digests(3))  # is not theirs to take back
    clock.now += CLAIM_S
    assert theirs.claimants(ICE, digests(3)).tolist() == [11]
    clock.now += 1
    assert theirs.claimants(ICE, digests(3)).tolist() == [0]


@pytest.mark.servers
@pytest.mark.parametrize(("rounds", "writers"), [(1500, 3), pytest.param(200_000, 4, marks=pytest.mark.exhaustive)])
def test_writers_at_once_make_no_wrong_score(tmp_path: Path, rounds: int, writers: int) -> None:
    """Processes put, claim and read 160 keys in a table for 64, one of them killed and begun again: none ever reads a wrong score."""
    path = tmp_path / "scores"
    running = [hammer(path, 64, seed, rounds) for seed in range(writers)]
    victim = hammer(path, 64, 99, 10**9)
    outputs = [one.communicate()[0] for one in running]
    victim.kill()
    victim.communicate()
    assert [one.returncode for one in running] == [0] * writers, outputs
    assert all(int(output) > 0 for output in outputs)


@pytest.mark.servers
async def test_a_claimant_that_died_keeps_nobody_waiting(tmp_path: Path) -> None:
    """While it lives its claim is waited for until the time is up; killed, not at all."""
    table = opened(tmp_path / "scores", 1000)
    other = hammer(tmp_path / "scores", 1000, 0, 0)
    assert other.stdout is not None
    assert other.stdout.readline() == "claimed\n"
    texts = np.arange(10)
    assert set(table.claimants(asked(0), texts).tolist()) == {other.pid}
    waiting = asyncio.create_task(awaited(table, asked(0), texts, time.monotonic() + 3600))
    await asyncio.wait([waiting], timeout=0.05)
    other.kill()
    other.communicate()
    assert np.isnan(await waiting).all()


async def test_a_wait_ends_with_its_time_or_the_scores() -> None:
    """A claimant that hangs is waited for until the given moment; one that puts its scores no longer."""
    words = np.zeros((WORDS, 4, WAYS), np.uint64)
    ours, theirs = ScoreTable(words), ScoreTable(words, pid=os.getppid())
    theirs.claim(ICE, digests(1))
    assert np.isnan(await awaited(ours, ICE, digests(1), time.monotonic()))
    waiting = asyncio.create_task(awaited(ours, ICE, digests(1), time.monotonic() + 3600))
    await asyncio.sleep(0.01)
    theirs.put(ICE, digests(1), np.array([0.5]))
    assert (await waiting).tolist() == [0.5]


def test_the_file_outlives_its_processes(tmp_path: Path) -> None:
    """Opened again with the same capacity it has what was put; two that have it open see each other's scores at once."""
    path = tmp_path / "home" / "scores"
    opened(path, 1000).put(ICE, digests(1), np.array([0.5]))
    first, second = opened(path, 1000), opened(path, 1000)
    assert first.get(ICE, digests(1))[0] == 0.5
    second.put(ICE, digests(2), np.array([0.25]))
    assert first.get(ICE, digests(2))[0] == 0.25


@pytest.mark.parametrize("damage", ["capacity", "cut", "header", "empty"])
def test_a_file_that_does_not_fit_is_made_anew(tmp_path: Path, damage: str) -> None:
    """Of another capacity or format, or cut short: the new one is empty, and those who have the old one go on with it."""
    path = tmp_path / "scores"
    before = opened(path, 1000)
    before.put(ICE, digests(1), np.array([0.5]))
    content = path.read_bytes()
    draft = tmp_path / "damaged"  # beside and renamed: what is mapped stays whole
    draft.write_bytes({"cut": content[:-1], "header": b"LTSCORE2" + content[8:], "empty": b"", "capacity": content}[damage])
    draft.replace(path)
    after = opened(path, 2000 if damage == "capacity" else 1000)
    assert np.isnan(after.get(ICE, digests(1)))
    after.put(ICE, digests(1), np.array([0.25]))
    assert before.get(ICE, digests(1))[0] == 0.5
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["scores", "scores.lock"]


def test_without_a_file_a_process_has_its_own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is met when the file is made, not when it is written to: the table is private, nothing is left behind."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file.os, "posix_fallocate", full)
    table = opened(tmp_path / "scores", 1000)
    table.put(ICE, digests(1), np.array([0.5]))
    assert table.get(ICE, digests(1))[0] == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["scores.lock"]
