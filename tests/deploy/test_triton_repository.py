"""What is written for Triton: configuration through its own protobuf, version directories whole or not at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from deploy.render import render
from deploy.triton import repository
from deploy.triton.runtime import Choice
from deploy.triton.target import GPU, ONNXRUNTIME, Target
from deploy.triton.target import read as read_target
from deploy.triton.target import write as write_target
from ranking.release import Member, TensorSpec
from tests.deploy.releases import COLUMNS, build_release

CHOICE = Choice("onnxruntime", 1, {})


@pytest.fixture
def trees(tmp_path: Path) -> Member:
    return build_release(tmp_path / "store", "r1", 3).member("trees")


def _place(tmp_path: Path, member: Member, choice: Choice = CHOICE) -> Path:
    repository.place(tmp_path / "repository", member, tmp_path / "store" / "r1" / member.path, choice, Target())
    return tmp_path / "repository" / member.model / str(member.version)


def test_the_configuration_says_what_the_manifest_says(tmp_path: Path, trees: Member) -> None:
    """Triton's own parser reads back the member's tensors and exactly the versions asked for."""
    repository.configure(tmp_path, trees, {3, 1}, Target())
    config = text_format.Parse((tmp_path / "trees" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("trees", "python", 1024)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("features", model_config_pb2.TYPE_FP32, [COLUMNS])]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [("logit", model_config_pb2.TYPE_FP32, [1])]
    assert list(config.version_policy.specific.versions) == [1, 3]
    assert repository.configured(tmp_path, "trees") == {1, 3}


def test_versions_that_cannot_share_a_configuration_are_noticed(tmp_path: Path, trees: Member) -> None:
    """Inputs and output belong to the model, not to a version; only the versions may differ."""
    assert not repository.conflict(tmp_path, trees)  # nothing there yet
    repository.configure(tmp_path, trees, {1}, Target())
    assert not repository.conflict(tmp_path, dataclasses.replace(trees, version=9))
    assert repository.conflict(tmp_path, dataclasses.replace(trees, output="score"))
    assert repository.conflict(tmp_path, dataclasses.replace(trees, inputs=(TensorSpec("features", "FP32", (-1, COLUMNS + 1)),)))


def test_requests_are_batched_and_refused_beyond_the_queue(tmp_path: Path, trees: Member) -> None:
    """Nobody waits for others to join; what waits too long, or finds the queue full, is rejected and not delayed."""
    repository.configure(tmp_path, trees, {3}, Target())
    batching = _parsed(tmp_path, "trees").dynamic_batching
    policy = batching.default_queue_policy
    assert batching.max_queue_delay_microseconds == 0
    assert (policy.timeout_action, policy.max_queue_size) == (model_config_pb2.ModelQueuePolicy.REJECT, 256)
    assert policy.default_timeout_microseconds == 10_000_000


@pytest.mark.parametrize(
    ("target", "backend", "kind"),
    [
        (Target(), "python", model_config_pb2.ModelInstanceGroup.KIND_CPU),
        (Target(ONNXRUNTIME, instances=2), "onnxruntime", model_config_pb2.ModelInstanceGroup.KIND_CPU),
        (Target(ONNXRUNTIME, GPU, 3), "onnxruntime", model_config_pb2.ModelInstanceGroup.KIND_GPU),
    ],
)
def test_one_release_is_written_for_either_backend_and_device(tmp_path: Path, target: Target, backend: str, kind: int) -> None:
    """What differs is the configuration and whether our own code lies beside the model; (n,) scores are reshaped for Triton's backend."""
    build_release(tmp_path / "store", "r1", 3)
    render(tmp_path / "store", "r1", tmp_path / "out", target)
    for model, scalar in (("trees", False), ("bert", True)):
        config = _parsed(tmp_path / "out", model)
        assert config.backend == backend
        assert config.platform == ("onnxruntime_onnx" if backend == "onnxruntime" else "")
        assert [(g.kind, g.count) for g in config.instance_group] == [(kind, target.instances)]
        reshaped = config.output[0].HasField("reshape") and list(config.output[0].reshape.shape) == []
        assert reshaped == (scalar and backend == "onnxruntime")
        assert list(config.output[0].dims) == [1]
        assert (tmp_path / "out" / model / "3" / "model.py").exists() == (backend == "python")
        assert (tmp_path / "out" / model / "3" / "model.onnx").exists()
    assert _parsed(tmp_path / "out", "bert").max_batch_size == (1024 if target.device == GPU else 256)


def test_every_version_is_warmed_up_with_golden_rows(tmp_path: Path) -> None:
    """The files hold exactly the rows that the configuration says, in Triton's layout, and stay for later versions of the model."""
    first, second = (build_release(tmp_path / "store", f"r{v}", v).member("bert") for v in (1, 2))
    repository.configure(tmp_path / "out", first, {1}, Target())
    (warmup,) = _parsed(tmp_path / "out", "bert").model_warmup
    rows = first.golden.inputs
    assert warmup.batch_size == 4
    for name, tensor in warmup.inputs.items():
        content = np.fromfile(tmp_path / "out" / "bert" / "warmup" / tensor.input_data_file, np.int64)
        np.testing.assert_array_equal(content.reshape(warmup.batch_size, *tensor.dims), rows[name])
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "bert" / "warmup").iterdir()}
    longer = dataclasses.replace(second, golden=dataclasses.replace(second.golden, inputs={n: [[1, 2]] for n in rows}, outputs=(0.0,)))
    repository.configure(tmp_path / "out", longer, {1, 2}, Target())
    assert list(_parsed(tmp_path / "out", "bert").model_warmup) == [warmup]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "bert" / "warmup").iterdir()} == files
    repository.remove(tmp_path / "out", "bert", {2})
    assert set(files) == set((tmp_path / "out" / "bert" / "warmup").iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backend": "tensorrt"}, "backend: 'tensorrt' is not one of python, onnxruntime"),
        ({"device": "tpu"}, "device: 'tpu' is not one of cpu, gpu"),
        ({"instances": 0}, "instances: must be a whole number of at least 1, got 0"),
        ({"instances": "2"}, "instances: must be a whole number of at least 1, got '2'"),
        ({"device": "gpu"}, "device: the python backend's runtimes compute on the CPU"),
        ({"gpus": 1}, "gpus"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused_by_key(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    """Whoever reads it is told the file and the key; where nobody wrote one it is the local server."""
    assert read_target(tmp_path / "target.json") == Target()
    (tmp_path / "target.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match=r"target\.json: .*" + message):
        read_target(tmp_path / "target.json")
    write_target(tmp_path / "target.json", Target(ONNXRUNTIME, GPU, 2))
    assert read_target(tmp_path / "target.json") == Target(ONNXRUNTIME, GPU, 2)


def test_a_repository_is_rendered_into_an_empty_folder_only(tmp_path: Path) -> None:
    """What lies there is somebody's."""
    build_release(tmp_path / "store", "r1", 3)
    with pytest.raises(FileExistsError, match="is not empty"):
        render(tmp_path / "store", "r1", tmp_path / "store", Target())


def _parsed(folder: Path, model: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


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
    repository.configure(tmp_path, trees, {3, 1}, Target())
    path = tmp_path / "trees" / "config.pbtxt"
    whole = path.read_bytes()
    for torn in (*(whole[:cut] for cut in range(0, len(whole), 7)), b"\xff\x00"):
        path.write_bytes(torn)
        assert repository.configured(tmp_path, "trees") <= {1, 3}
        repository.conflict(tmp_path, trees)
    path.write_bytes(whole[: len(whole) // 2])
    assert repository.configured(tmp_path, "trees") == set()
    assert not repository.conflict(tmp_path, dataclasses.replace(trees, output="score"))
    repository.configure(tmp_path, trees, {3}, Target())
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
