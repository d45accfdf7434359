"""What is written for Triton: configuration through its own protobuf, version directories whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from deploy.triton import repository
from deploy.triton.runtime import Choice
from ranking.release import Member, TensorSpec
from tests.deploy.releases import COLUMNS, build_release

CHOICE = Choice("onnxruntime", 1, {})


@pytest.fixture
def trees(tmp_path: Path) -> Member:
    return build_release(tmp_path / "store", "r1", 3).member("trees")


def _place(tmp_path: Path, member: Member, choice: Choice = CHOICE) -> Path:
    repository.place(tmp_path / "repository", member, tmp_path / "store" / "r1" / member.path, choice)
    return tmp_path / "repository" / member.model / str(member.version)


def test_the_configuration_says_what_the_manifest_says(tmp_path: Path, trees: Member) -> None:
    """Triton's own parser reads back the member's tensors and exactly the versions asked for."""
    repository.configure(tmp_path, trees, {3, 1})
    config = text_format.Parse((tmp_path / "trees" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("trees", "python", 0)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("features", model_config_pb2.TYPE_FP32, [-1, COLUMNS])]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [("logit", model_config_pb2.TYPE_FP32, [-1])]
    assert list(config.version_policy.specific.versions) == [1, 3]
    assert repository.configured(tmp_path, "trees") == {1, 3}


def test_versions_that_cannot_share_a_configuration_are_noticed(tmp_path: Path, trees: Member) -> None:
    """Inputs and output belong to the model, not to a version; only the versions may differ."""
    assert not repository.conflict(tmp_path, trees)  # nothing there yet
    repository.configure(tmp_path, trees, {1})
    assert not repository.conflict(tmp_path, dataclasses.replace(trees, version=9))
    assert repository.conflict(tmp_path, dataclasses.replace(trees, output="score"))
    assert repository.conflict(tmp_path, dataclasses.replace(trees, inputs=(TensorSpec("features", "FP32", (-1, COLUMNS + 1)),)))


def test_placing_again_touches_nothing(tmp_path: Path, trees: Member) -> None:
    """A version directory that is right keeps its times: a changed time makes Triton load the version again."""
    target = _place(tmp_path, trees)
    before = {p: p.stat().st_mtime_ns for p in [target, *target.rglob("*")]}
    _place(tmp_path, trees)
    assert {p: p.stat().st_mtime_ns for p in [target, *target.rglob("*")]} == before


def test_a_version_directory_leaves_the_interpreter_nothing_to_write(tmp_path: Path, trees: Member) -> None:
    """The model's code is compiled beside it, so running it does not change the directory."""
    assert len(list(_place(tmp_path, trees).glob("__pycache__/model.*.pyc"))) == 1


def test_another_choice_or_model_replaces_the_directory(tmp_path: Path, trees: Member) -> None:
    """What stands in a version directory is what was placed last."""
    target = _place(tmp_path, trees)
    assert repository.placed_digest(tmp_path / "repository", "trees", 3) == trees.sha256
    _place(tmp_path, trees, Choice("onnxruntime", 2, {}))
    assert '"threads": 2' in (target / "run.json").read_text()
    assert [p.name for p in target.parent.iterdir()] == ["3"]


def test_the_model_file_is_the_releases(tmp_path: Path, trees: Member) -> None:
    """A hard link where the filesystem has them: a release's models take no second place on disk."""
    assert (_place(tmp_path, trees) / "model.onnx").samefile(tmp_path / "store" / "r1" / trees.path)


def test_without_hard_links_the_model_is_copied(tmp_path: Path, trees: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across filesystems the bytes are the same."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    placed = _place(tmp_path, trees) / "model.onnx"
    assert placed.read_bytes() == (tmp_path / "store" / "r1" / trees.path).read_bytes()


@pytest.mark.parametrize("torn", [b"", b'{"runtime": "onnx', b"[]", b"{}", b"\xff\x00"])
def test_a_torn_version_directory_counts_as_absent(tmp_path: Path, trees: Member, torn: bytes) -> None:
    """Half a file in it says nothing, and the version is placed anew."""
    target = _place(tmp_path, trees)
    (target / "run.json").write_bytes(torn)
    assert repository.placed_digest(tmp_path / "repository", "trees", 3) == ""
    assert repository.torn(tmp_path / "repository", trees)
    _place(tmp_path, trees)
    assert not repository.torn(tmp_path / "repository", trees)
    assert repository.placed_digest(tmp_path / "repository", "trees", 3) == trees.sha256


def test_a_torn_configuration_counts_as_absent(tmp_path: Path, trees: Member) -> None:
    """Wherever it was cut, it names no versions but whole ones, stands in nobody's way and can be written again."""
    repository.configure(tmp_path, trees, {3, 1})
    path = tmp_path / "trees" / "config.pbtxt"
    whole = path.read_bytes()
    for torn in (*(whole[:cut] for cut in range(0, len(whole), 7)), b"\xff\x00"):
        path.write_bytes(torn)
        assert repository.configured(tmp_path, "trees") <= {1, 3}
        repository.conflict(tmp_path, trees)
    path.write_bytes(whole[: len(whole) // 2])
    assert repository.configured(tmp_path, "trees") == set()
    assert not repository.conflict(tmp_path, dataclasses.replace(trees, output="score"))
    repository.configure(tmp_path, trees, {3})
    assert repository.configured(tmp_path, "trees") == {3}


def test_removing_keeps_only_what_is_kept(tmp_path: Path, trees: Member) -> None:
    """Versions not kept go; a model of which nothing is kept goes whole."""
    _place(tmp_path, trees)
    folder = tmp_path / "repository"
    (folder / "trees" / "1").mkdir()
    repository.remove(folder, "trees", {3})
    assert sorted(p.name for p in (folder / "trees").iterdir()) == ["3"]
    repository.remove(folder, "trees", set())
    assert repository.models(folder) == []
    assert repository.configured(folder, "trees") == set()
