"""Tombstones: what is added is known to every process, at once and for good."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.privacy.forgotten import Forgotten


def test_who_was_added_is_forgotten_in_all_that_have_the_file_open(tmp_path: Path) -> None:
    """Another one that read it before learns of it; nobody else is forgotten, and the file does not tell who is."""
    ours, theirs = Forgotten(tmp_path / "new" / "forgotten"), Forgotten(tmp_path / "new" / "forgotten")
    assert "ann" not in theirs
    ours.add(["ann", "bob"])
    assert "ann" in theirs
    assert "bob" in ours
    assert "cid" not in theirs
    assert "" not in theirs
    assert b"ann" not in (tmp_path / "new" / "forgotten").read_bytes()


@given(st.lists(st.lists(st.text(min_size=1, max_size=5), max_size=4), max_size=4))
def test_adding_twice_is_adding_once(tmp_path_factory: pytest.TempPathFactory, added: list[list[str]]) -> None:
    """Any sequence of additions leaves one line per user."""
    path = tmp_path_factory.mktemp("f") / "forgotten"
    forgotten = Forgotten(path)
    for users in added:
        forgotten.add(users)
    everybody = {user for users in added for user in users}
    assert all(user in forgotten for user in everybody)
    assert len(path.read_text().splitlines() if path.exists() else []) == len(everybody)


def test_a_line_cut_short_does_no_harm(tmp_path: Path) -> None:
    """A crash left half a line: it counts for nobody and the next addition stands whole."""
    path = tmp_path / "forgotten"
    Forgotten(path).add(["ann"])
    path.write_bytes(path.read_bytes() + b"0123")
    assert "ann" in Forgotten(path)
    Forgotten(path).add(["bob"])
    assert [len(line) for line in path.read_text().splitlines()] == [32, 32]
    assert "bob" in Forgotten(path)


def _add(path: Path, name: str) -> None:
    for i in range(20):
        Forgotten(path).add([f"{name}{i}"])


def test_processes_that_add_at_once_lose_nobody(tmp_path: Path) -> None:
    """Four processes, twenty users each: all eighty are forgotten."""
    path = tmp_path / "forgotten"
    workers = [get_context("spawn").Process(target=_add, args=(path, name)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(f"{name}{i}" in Forgotten(path) for name in "abcd" for i in range(20))
    assert len(path.read_text().splitlines()) == 80


def test_the_empty_id_is_refused_and_nothing_written(tmp_path: Path) -> None:
    """It stands for everybody unknown."""
    with pytest.raises(ValueError, match="must not be empty"):
        Forgotten(tmp_path / "forgotten").add(["ann", ""])
    assert not (tmp_path / "forgotten").exists()
