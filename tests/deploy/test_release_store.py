"""The release store: what is read is verified, and the pointer is always one whole truth."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
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
from ranking.trial import Mode, Trial
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
    assert store.left(tmp_path) == ()
    store.activate(tmp_path, "r1")
    assert store.left(tmp_path) == ()
    store.activate(tmp_path, "r2")
    assert store.left(tmp_path) == ("r1",)
    store.activate(tmp_path, "r2")
    assert store.left(tmp_path) == ("r1",)
    store.rollback(tmp_path)
    assert (store.active(tmp_path), store.left(tmp_path)) == ("r1", ("r2",))


def test_a_pointer_that_says_less_is_still_one(tmp_path: Path) -> None:
    """A pointer written without what it left, or with nonsense there, left none; one of an older version names one release."""
    for more, left in (("", ()), (', "left": 7', ()), (', "left": "r0"', ("r0",))):
        (tmp_path / store.POINTER).write_text('{"release": "r1", "activated": "", "previous": []' + more + "}")
        assert (store.active(tmp_path), store.left(tmp_path)) == ("r1", left)


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


def _on_trial(release: str, share: float = 0.5) -> Trial:
    return Trial(release, Mode.CANARY, share, release, "2026-01-01T00:00:00Z")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A store of r1, r2 and r3 in which r1 is active."""
    for version, name in enumerate(["r1", "r2", "r3"], start=1):
        build_release(tmp_path, name, version)
    store.activate(tmp_path, "r1")
    return tmp_path


def test_a_trial_stands_beside_the_active_release_and_changes(three: Path) -> None:
    """Starting and changing a trial leaves the active release and its history alone; ending it leaves what was tried."""
    before = store.pointer(three)
    assert before is not None
    for share in (0.1, 0.5, 0.2):
        assert store.put_on_trial(three, _on_trial("r2", share)) == store.pointer(three) == replace(before, trial=_on_trial("r2", share))
        assert store.left(three) == ()
    assert store.end_trial(three) == store.pointer(three) == before
    assert store.left(three) == ("r2",)
    assert store.end_trial(three) == before  # once more changes nothing
    assert store.left(three) == ("r2",)


@pytest.mark.parametrize("moved_to", ["r1", "r2", "r3", "back"])
def test_every_move_of_the_pointer_ends_the_trial(three: Path, moved_to: str) -> None:
    """Activating the active one, the tried one or another one, or going back, is one write after which nothing is on trial."""
    store.activate(three, "r3")
    store.activate(three, "r1")
    store.put_on_trial(three, _on_trial("r2"))
    now = store.rollback(three) if moved_to == "back" else store.activate(three, moved_to)
    active = "r3" if moved_to == "back" else moved_to
    assert (now.release, now.trial) == (active, None)
    assert store.pointer(three) == now
    assert set(store.left(three)) == {"r1", "r2"} - {active}  # requests under way may name them


def test_what_cannot_be_tried_now_is_refused(three: Path) -> None:
    """An unknown release, the active one, one beside another's trial, or any while nothing is active: the pointer stays as it was."""
    with pytest.raises(UnknownName, match="r9"):
        store.put_on_trial(three, _on_trial("r9"))
    with pytest.raises(InvalidRelease, match=r"ACTIVE\.release: r1 is the active release already"):
        store.put_on_trial(three, _on_trial("r1"))
    now = store.put_on_trial(three, _on_trial("r2"))
    with pytest.raises(InvalidRelease, match=r"ACTIVE\.trial: r2 is on trial: end or promote it first"):
        store.put_on_trial(three, _on_trial("r3"))
    assert store.pointer(three) == now
    (three / store.POINTER).unlink()
    for change in (store.end_trial, lambda s: store.put_on_trial(s, _on_trial("r2"))):
        with pytest.raises(InvalidRelease, match="names no active release"):
            change(three)


def test_a_damaged_trial_keeps_nobody_from_the_active_release(three: Path) -> None:
    """The pointer is read without it, its key is named for whoever asks, and ending it writes a whole pointer."""
    store.put_on_trial(three, _on_trial("r2"))
    path = three / store.POINTER
    path.write_text(path.read_text().replace('"share": 0.5', '"share": 5'))
    assert (store.active(three), store.trial_problem(three)) == ("r1", "ACTIVE.trial.share: must be a number within [0, 1], got '5'")
    store.end_trial(three)
    assert store.trial_problem(three) == ""
    store.put_on_trial(three, _on_trial("r2"))
    store.end_trial(three, "r2 was wrong")
    assert store.trial_problem(three) == "r2 was wrong"
    store.activate(three, "r2")
    assert store.trial_problem(three) == ""
