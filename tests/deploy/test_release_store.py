"""The release store: what is read is verified, and the pointer is always one whole truth."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import store
from ranking.errors import InvalidRelease, UnknownName
from ranking.layout import Layout
from ranking.pointer import Pointer, parse_pointer, pointer_text, read_pointer
from ranking.release import MANIFEST
from tests.deploy.releases import alter, build_release

IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)


@given(IDS, st.text(), st.lists(IDS))
def test_a_pointer_survives_writing_and_reading(release: str, activated: str, previous: list[str]) -> None:
    """What is written is what is read, and readers that want only the id get the id."""
    pointer = Pointer(release, activated, tuple(previous))
    assert read_pointer(pointer_text(pointer)) == pointer
    assert parse_pointer(pointer_text(pointer)) == release


@pytest.mark.parametrize("text", ["", "r1", "[]", '{"release": "r1"}', '{"release": "../r1", "activated": "", "previous": []}'])
def test_a_damaged_pointer_is_refused(text: str) -> None:
    """Anything that is not a whole pointer is an error, never a guess."""
    with pytest.raises(InvalidRelease):
        parse_pointer(text)


def test_reading_gives_what_was_published(tmp_path: Path) -> None:
    """A release read back equals the one that was written."""
    written = build_release(tmp_path, "r1", 1)
    assert store.read(tmp_path, "r1").to_json() == written.to_json()


@pytest.mark.parametrize("name", ["nosuch", "../r1", "", "."])
def test_an_unknown_release_is_named_with_the_known_ones(tmp_path: Path, name: str) -> None:
    """Asking for a release that is not a directory of the store says which there are."""
    build_release(tmp_path, "r1", 1)
    with pytest.raises(UnknownName, match="known: r1"):
        store.read(tmp_path, name)


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "model changed": (lambda d: _flip_a_byte(d / "models/trees/model.onnx"), r"members\[0\]\.sha256: models/trees/model.onnx has digest"),
    "model absent": (lambda d: (d / "models/bert/model.onnx").unlink(), r"members\[1\]\.path: models/bert/model.onnx: No such file"),
    "tokenizer changed": (lambda d: _flip_a_byte(d / "tokenizer/tokenizer.json"), r"tokenizer\.sha256"),
    "manifest torn": (lambda d: (d / MANIFEST).write_text('{"format": 1'), r"release\.json: is not JSON"),
    "manifest a list": (lambda d: (d / MANIFEST).write_text("[]"), r"release\.json: must be an object"),
    "renamed": (lambda d: alter(d.parent, "r1", lambda m: m.update(id="r2")), r"id: is 'r2' but the directory is named 'r1'"),
    "member outside": (lambda d: alter(d.parent, "r1", lambda m: m["members"][0].update(path="../x")), r"must stay inside"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_release_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    """Each way of being damaged names the key or file that is wrong."""
    build_release(tmp_path, "r1", 1)
    break_it, message = DAMAGES[damage]
    break_it(tmp_path / "r1")
    with pytest.raises(InvalidRelease, match=message):
        store.read(tmp_path, "r1")


def test_listing_shows_age_activity_and_damage(tmp_path: Path) -> None:
    """Releases are listed oldest first; a damaged one does not hide the others, and one being written is not listed."""
    for version, name in enumerate(["b", "a", "c"], start=1):
        build_release(tmp_path, name, version)
    (tmp_path / ".new").mkdir()
    (tmp_path / ".new" / MANIFEST).write_text("{}")
    (tmp_path / "c" / MANIFEST).write_text("{")
    store.activate(tmp_path, "a")
    listed = store.list_releases(tmp_path)
    assert [(r.id, r.active, bool(r.problem)) for r in listed] == [("c", False, True), ("b", False, False), ("a", True, False)]


def test_activation_and_rollback_walk_the_history(tmp_path: Path) -> None:
    """Rolling back undoes activations one by one and says when there is nothing left to undo."""
    assert store.active(tmp_path) is None
    for version, name in enumerate(["r1", "r2", "r3"], start=1):
        build_release(tmp_path, name, version)
        store.activate(tmp_path, name)
    assert store.activate(tmp_path, "r3").previous == ("r2", "r1")  # once more changes nothing
    assert store.rollback(tmp_path).release == "r2"
    assert store.rollback(tmp_path).release == "r1"
    with pytest.raises(InvalidRelease, match="no earlier release"):
        store.rollback(tmp_path)
    assert store.active(tmp_path) == "r1"


def test_the_pointer_says_what_its_last_move_left(tmp_path: Path) -> None:
    """Whichever way the pointer moves, the release it came from is remembered; what does not move it changes nothing."""
    for version, name in enumerate(["r1", "r2"], start=1):
        build_release(tmp_path, name, version)
    assert store.left(tmp_path) is None
    store.activate(tmp_path, "r1")
    assert store.left(tmp_path) is None
    store.activate(tmp_path, "r2")
    assert store.left(tmp_path) == "r1"
    store.activate(tmp_path, "r2")
    assert store.left(tmp_path) == "r1"
    store.rollback(tmp_path)
    assert (store.active(tmp_path), store.left(tmp_path)) == ("r1", "r2")


def test_a_pointer_that_says_less_is_still_one(tmp_path: Path) -> None:
    """A pointer written without the release it left, or with nonsense there, left none."""
    for more in ("", ', "left": 7'):
        (tmp_path / store.POINTER).write_text('{"release": "r1", "activated": "", "previous": []' + more + "}")
        assert (store.active(tmp_path), store.left(tmp_path)) == ("r1", None)


def test_only_what_is_in_the_store_can_be_pointed_at(tmp_path: Path) -> None:
    """Neither activation nor rollback leaves a pointer to nothing."""
    for version, name in enumerate(["r1", "r2"], start=1):
        build_release(tmp_path, name, version)
        store.activate(tmp_path, name)
    with pytest.raises(UnknownName):
        store.activate(tmp_path, "r9")
    (tmp_path / "r1" / MANIFEST).unlink()
    with pytest.raises(UnknownName):
        store.rollback(tmp_path)
    assert store.active(tmp_path) == "r2"


def test_a_reader_never_sees_half_a_pointer(tmp_path: Path) -> None:
    """However often the pointer moves, each read gives one of the releases it pointed at."""
    for version, name in enumerate(["r1", "r2"], start=1):
        build_release(tmp_path, name, version)
    store.activate(tmp_path, "r1")
    seen: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(parse_pointer((tmp_path / store.POINTER).read_text()))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(100):
        store.activate(tmp_path, ("r1", "r2")[turn % 2])
    done.set()
    reader.join()
    assert seen
    assert set(seen) <= {"r1", "r2"}


def test_a_failed_write_leaves_the_old_pointer_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the old pointer stands and no temporary file stays."""
    for version, name in enumerate(["r1", "r2"], start=1):
        build_release(tmp_path, name, version)
    store.activate(tmp_path, "r1")
    before = sorted(p.name for p in tmp_path.iterdir())

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        store.activate(tmp_path, "r2")
    assert store.active(tmp_path) == "r1"
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b'{"release": "r1", "act', b"\xff\xfe", b"[]", b'{"release": 1}'])
def test_an_activation_repairs_a_damaged_pointer(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """However the pointer is damaged, its error names it, the releases are listed without it, and activating writes it anew."""
    for version, name in enumerate(["r1", "r2"], start=1):
        build_release(tmp_path, name, version)
        store.activate(tmp_path, name)
    (tmp_path / store.POINTER).write_bytes(content)
    for reader in (store.active, store.left, store.rollback):
        with pytest.raises(InvalidRelease, match=f"^{store.POINTER}"):
            reader(tmp_path)
    assert [(r.id, r.active, r.problem) for r in store.list_releases(tmp_path)] == [("r1", False, ""), ("r2", False, "")]
    with caplog.at_level(logging.WARNING):
        written = store.activate(tmp_path, "r1")
    assert store.POINTER in caplog.text
    assert (store.pointer(tmp_path), written.previous) == (written, ())


def test_the_pointer_is_where_readers_look(layout: Layout) -> None:
    """The file the store writes is the one the layout names, with the key the gateway reads."""
    build_release(layout.releases, "r1", 1)
    store.activate(layout.releases, "r1")
    assert json.loads(layout.pointer.read_text())["release"] == "r1"
