"""A release store elsewhere, the same on fsspec's memory and in a directory: whole releases or none, and of two publishers one wins."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from deploy import elsewhere, store
from ranking.errors import InvalidRelease, LongtailError, Unavailable, UnknownName
from ranking.release import MANIFEST
from tests.deploy.releases import alter, build_release
from training.release.draft import publication


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store of its own."""
    return f"memory://{uuid.uuid4().hex}/store" if request.param == "memory" else f"file://{tmp_path / 'elsewhere'}"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A local store with r1."""
    build_release(tmp_path / "here", "r1", 1)
    return tmp_path / "here"


def at(url: str) -> tuple[Any, str]:
    fs, root = fsspec.core.url_to_fs(url)
    return fs, root


def files(url: str) -> list[str]:
    fs, root = at(url)
    return sorted(fs.find(root))


def test_what_is_pushed_is_what_is_pulled(here: Path, tmp_path: Path, url: str) -> None:
    """Byte for byte, into a store that did not exist; doing either again changes nothing."""
    there = tmp_path / "there"
    for _ in range(2):
        assert elsewhere.push(here, "r1", url).id == "r1"
        assert elsewhere.pull(url, "r1", there) == store.read(there, "r1") == store.read(here, "r1")
    for path in (p for p in (here / "r1").rglob("*") if p.is_file()):
        assert (there / path.relative_to(here)).read_bytes() == path.read_bytes()
    assert [p.name for p in there.iterdir()] == ["r1"]


def test_files_are_kept_once(here: Path, url: str) -> None:
    """Another release of the same models and tokenizer adds nothing but its manifest."""
    elsewhere.push(here, "r1", url)
    before = files(url)
    (here / "r1").rename(here / "r1-p1")
    alter(here, "r1-p1", lambda m: m.update(id="r1-p1"))
    elsewhere.push(here, "r1-p1", url)
    (added,) = set(files(url)) - set(before)
    assert added.endswith("/releases/r1-p1.json")


def test_an_unknown_release_is_named_with_those_there_are(here: Path, tmp_path: Path, url: str) -> None:
    """On an empty store there is none; nothing is made locally."""
    with pytest.raises(UnknownName, match="known: none"):
        elsewhere.pull(url, "r1", tmp_path / "there")
    elsewhere.push(here, "r1", url)
    for name in ("r2", "../r1", ""):
        with pytest.raises(UnknownName, match="known: r1"):
            elsewhere.pull(url, name, tmp_path / "there")
    assert not (tmp_path / "there").exists()
    with pytest.raises(UnknownName, match="known: r1"):
        elsewhere.push(here, "r2", url)


def test_of_two_publishers_of_one_name_one_wins(tmp_path: Path, url: str) -> None:
    """Whichever comes first, also at once: the other is told, and what is there is wholly the winner's."""
    stores = [tmp_path / f"from{i}" for i in range(4)]
    for i, one in enumerate(stores):
        build_release(one, "r1", 1, bias=float(i))
    outcomes: dict[int, str] = {}
    ready = threading.Barrier(len(stores))

    def publish(i: int) -> None:
        ready.wait()
        try:
            elsewhere.push(stores[i], "r1", url)
            outcomes[i] = ""
        except InvalidRelease as lost:
            outcomes[i] = str(lost)

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [i for i, said in outcomes.items() if not said]
    assert all("another release was published under this name" in said for i, said in outcomes.items() if i != winner)
    assert elsewhere.pull(url, "r1", tmp_path / "there") == store.read(stores[winner], "r1")
    with pytest.raises(InvalidRelease, match="another release has this name here; it stays"):
        elsewhere.pull(url, "r1", stores[(winner + 1) % len(stores)])


def test_a_version_that_is_another_model_here_is_refused_by_name(here: Path, tmp_path: Path, url: str) -> None:
    """Two stores each published a version 1: the message names the model and the release that has the number, and nothing changes."""
    elsewhere.push(here, "r1", url)
    build_release(tmp_path / "there", "mine", 1, bias=0.5)
    before = sorted((tmp_path / "there").rglob("*"))
    with pytest.raises(InvalidRelease, match=r"members\[0\]\.version: 1 of .* is another model here, of release mine; renumber it"):
        elsewhere.pull(url, "r1", tmp_path / "there")
    assert sorted((tmp_path / "there").rglob("*")) == before


def test_a_renumbered_release_is_the_same_under_a_number_of_its_own(here: Path, tmp_path: Path, url: str) -> None:
    """One above all that are taken, every file with its digest; its lineage names the original, and pulling it again gives it again."""
    elsewhere.push(here, "r1", url)
    there = tmp_path / "there"
    build_release(there, "mine", 4, bias=0.5)
    build_release(there, "also", 1, bias=0.7)
    found = elsewhere.pull(url, "r1", there, renumber=True)
    assert (found.id, {m.version for m in found.members}, found.lineage["pulled_as"]) == ("r1-n5", {5}, "r1")
    original = store.read(here, "r1")
    assert [(m.name, m.sha256) for m in store.read(there, "r1-n5").members] == [(m.name, m.sha256) for m in original.members]
    assert elsewhere.pull(url, "r1", there, renumber=True) == found
    assert sorted(p.name for p in there.iterdir()) == ["also", "mine", "r1-n5"]


def test_without_a_collision_nothing_is_renumbered(here: Path, tmp_path: Path, url: str) -> None:
    """Equal models may share a number, as releases do that differ in policies alone."""
    elsewhere.push(here, "r1", url)
    build_release(tmp_path / "there", "mine", 1)
    assert elsewhere.pull(url, "r1", tmp_path / "there", renumber=True).id == "r1"


def test_nothing_is_pulled_while_somebody_publishes(here: Path, tmp_path: Path, url: str) -> None:
    """A publication may be taking the very number: it is told, and pulls when that has ended."""
    elsewhere.push(here, "r1", url)
    with publication(tmp_path / "there"), pytest.raises(Unavailable, match="a publication is under way; pull again when it has ended"):
        elsewhere.pull(url, "r1", tmp_path / "there")
    assert elsewhere.pull(url, "r1", tmp_path / "there").id == "r1"


def _a_file(url: str) -> tuple[Any, str]:
    fs, root = at(url)
    return fs, sorted(fs.find(f"{root}/files"))[0]


def _cut(url: str) -> None:
    fs, path = _a_file(url)
    fs.pipe_file(path, fs.cat_file(path)[:-9])


def _lose(url: str) -> None:
    fs, path = _a_file(url)
    fs.rm_file(path)


def _tear(url: str) -> None:
    fs, root = at(url)
    fs.pipe_file(f"{root}/releases/r1.json", b'{"format": 2')


@pytest.mark.parametrize(
    ("damage", "message"), [(_cut, r"\.sha256: .* has digest"), (_lose, r"\.path: its file is not in the store"), (_tear, r"is not JSON")]
)
def test_a_damaged_store_gives_nothing(here: Path, tmp_path: Path, url: str, damage: Callable[[str], None], message: str) -> None:
    """What is wrong is named, and nothing of the release, nor a draft, lies in the local store."""
    elsewhere.push(here, "r1", url)
    damage(url)
    there = tmp_path / "there"
    with pytest.raises(InvalidRelease, match=message):
        elsewhere.pull(url, "r1", there)
    assert not there.exists() or not list(there.iterdir())


def test_a_push_cut_short_publishes_nothing_and_can_be_made_again(here: Path, url: str) -> None:
    """A file that was half uploaded is uploaded anew; a release not whole here is not pushed at all."""
    elsewhere.push(here, "r1", url)
    fs, root = at(url)
    fs.rm_file(f"{root}/releases/r1.json")
    _cut(url)
    elsewhere.push(here, "r1", url)
    assert elsewhere.pull(url, "r1", here.parent / "there").id == "r1"
    (here / "r1" / "models/trees/model.onnx").write_bytes(b"torn")
    with pytest.raises(InvalidRelease, match=r"members\[0\]\.sha256"):
        elsewhere.push(here, "r1", f"{url}2")
    assert not [name for name in files(f"{url}2") if name.endswith(".json")]


def test_a_full_disk_leaves_no_half_release(here: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While pulling, the error says so and nothing stays; while pushing, no manifest is there."""
    elsewhere.push(here, "r1", url)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    there = tmp_path / "there"
    with monkeypatch.context() as patch:
        patch.setattr(elsewhere, "_write", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            elsewhere.pull(url, "r1", there)
    assert list(there.iterdir()) == []
    fs, _ = at(url)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(fs), "put_file", refuse)
        with pytest.raises(Unavailable, match="No space left on device"):
            elsewhere.push(here, "r1", f"{url}2")
    assert not files(f"{url}2")
    assert (here / "r1" / MANIFEST).exists()


@pytest.mark.parametrize("url", ["nosuch://bucket/store"])
def test_an_unknown_kind_of_store_is_named(here: Path, url: str) -> None:
    """A protocol nobody knows is an error of ours that names the URL."""
    with pytest.raises(LongtailError, match="nosuch"):
        elsewhere.push(here, "r1", url)
