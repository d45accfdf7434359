"""Which runtime a member gets: the fastest that gives the golden outputs, measured once per model and machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from deploy.triton import backend_model, runtime
from ranking.errors import InvalidRelease
from ranking.release import Golden, Member
from tests.deploy.releases import TEXT_INPUTS, bert_logits, build_release, text_batch

HOST = runtime.Host("test", 1, bf16=False)


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, Member, Member]:
    built = build_release(tmp_path, "r1", 1)
    return tmp_path / "r1", built.member("trees"), built.member("bert")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino-f32"])
def test_every_runtime_gives_the_models_scores(release: tuple[Path, Member, Member], name: str) -> None:
    """Each runtime's output equals the scores computed by hand, for several shapes in turn."""
    directory, _, bert = release
    score = backend_model.open_scorer(directory / bert.path, name, dict.fromkeys(TEXT_INPUTS, "TYPE_INT64"), "logit", 1)
    for n, length in ((1, 3), (7, 12), (2, 5)):
        batch = text_batch(n, length)
        np.testing.assert_allclose(score(batch), bert_logits(batch), atol=1e-5)


def test_a_scorer_does_not_overwrite_what_it_gave(release: tuple[Path, Member, Member]) -> None:
    """An answer stays as it was when the next batch is scored."""
    directory, _, bert = release
    score = backend_model.open_scorer(directory / bert.path, "openvino-f32", dict.fromkeys(TEXT_INPUTS, "TYPE_INT64"), "logit", 1)
    first = score(text_batch(3, seed=1))
    kept = first.copy()
    score(text_batch(3, seed=2))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino-f32"])
def test_a_model_with_other_inputs_is_refused(release: tuple[Path, Member, Member], name: str) -> None:
    """Names and types must be the manifest's, whichever runtime reads the model."""
    directory, _, bert = release
    with pytest.raises(ValueError, match=r"inputs: the release says .*'input_ids'"):
        backend_model.open_scorer(directory / bert.path, name, {"input_ids": "TYPE_INT64"}, "logit", 1)
    with pytest.raises(ValueError, match=r"output: the release says .*'score'"):
        backend_model.open_scorer(directory / bert.path, name, dict.fromkeys(TEXT_INPUTS, "TYPE_INT64"), "score", 1)


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    """A runtime that does not exist is named with those that do."""
    with pytest.raises(ValueError, match="'tensorrt' is not one of onnxruntime, openvino-f32, openvino-bf16"):
        backend_model.open_scorer(tmp_path, "tensorrt", {}, "logit", 1)


def test_tree_models_are_not_measured(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """A features member runs on ONNX Runtime with one thread, and nothing is written."""
    directory, trees, _ = release
    assert runtime.choose(trees, directory / trees.path, tmp_path / "cache.json", HOST) == runtime.Choice("onnxruntime", 1, {})
    assert not (tmp_path / "cache.json").exists()


def test_the_faster_runtime_is_chosen_and_remembered(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """Both are measured, the smaller time wins, and a second call reads the answer (no model file needed)."""
    directory, _, bert = release
    cache = tmp_path / "cache.json"
    chosen = runtime.choose(bert, directory / bert.path, cache, HOST)
    assert set(chosen.milliseconds) == {"onnxruntime", "openvino-f32"}
    assert chosen.milliseconds[chosen.runtime] == min(chosen.milliseconds.values())
    assert runtime.choose(bert, tmp_path / "gone.onnx", cache, HOST) == chosen


def test_another_model_or_machine_is_measured_anew(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """What was measured elsewhere, or for other weights, says nothing here."""
    directory, _, bert = release
    cache = tmp_path / "cache.json"
    runtime.choose(bert, directory / bert.path, cache, HOST)
    runtime.choose(bert, directory / bert.path, cache, dataclasses.replace(HOST, cpu="other"))
    runtime.choose(dataclasses.replace(bert, sha256="0" * 64), directory / bert.path, cache, HOST)
    assert len(json.loads(cache.read_text())) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"test'])
def test_a_torn_cache_is_measured_again(release: tuple[Path, Member, Member], tmp_path: Path, content: str) -> None:
    """The cache is a convenience: whatever is wrong with it, the choice is made."""
    directory, _, bert = release
    (tmp_path / "cache.json").write_text(content)
    assert runtime.choose(bert, directory / bert.path, tmp_path / "cache.json", HOST).runtime in backend_model.RUNTIMES


def test_wrong_scores_are_never_chosen_however_fast(
    release: tuple[Path, Member, Member], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that misses the golden outputs is out, and the right one is taken."""
    directory, _, bert = release
    honest = backend_model.open_scorer

    def distort(path: Path, name: str, inputs: dict[str, str], output: str, threads: int) -> backend_model.Scorer:
        score = honest(path, name, inputs, output, threads)
        return score if name == "openvino-f32" else lambda batch: np.zeros(len(batch["input_ids"]), np.float32)

    monkeypatch.setattr(backend_model, "open_scorer", distort)
    chosen = runtime.choose(bert, directory / bert.path, tmp_path / "cache.json", HOST)
    assert (chosen.runtime, set(chosen.milliseconds)) == ("openvino-f32", {"openvino-f32"})


def test_a_model_no_runtime_runs_is_refused_with_every_reason(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """When nothing runs the model, the error says what each runtime said, and nothing is remembered."""
    directory, _, bert = release
    (directory / bert.path).write_bytes(b"not an onnx file")
    with pytest.raises(InvalidRelease, match=r"model\.onnx: onnxruntime: .*; openvino-f32: ") as caught:
        runtime.choose(bert, directory / bert.path, tmp_path / "cache.json", HOST)
    assert caught.value.key == "model.onnx"
    assert not (tmp_path / "cache.json").exists()


def test_bf16_is_tried_only_where_the_processor_has_it() -> None:
    """Emulated bfloat16 is slower and less exact for nothing."""
    assert runtime.Host("x", 1, bf16=True).text_runtimes() == ("onnxruntime", "openvino-bf16")
    assert HOST.text_runtimes() == ("onnxruntime", "openvino-f32")
    assert runtime.host().threads >= 1


@pytest.mark.parametrize(
    ("got", "problem"),
    [
        ([1.0, 2.0], ""),
        ([[1.05], [2.0]], ""),
        ([1.0, 2.2], "output 1 is 2.2, expected 2 within 0.1"),
        ([1.0, np.nan], "output 1 is not finite"),
        ([np.inf, 2.0], "output 0 is not finite"),
        ([], r"output has shape [0], expected [2]"),
        ([[1.0, 2.0]], r"output has shape [1, 2], expected [2]"),
    ],
)
def test_golden_outputs_are_compared_one_by_one(release: tuple[Path, Member, Member], got: list[float], problem: str) -> None:
    """An output counts when it is finite, of the right shape and within the tolerance; otherwise the worst one is named."""
    member = dataclasses.replace(release[1], golden=Golden({}, (1.0, 2.0), 0.1))
    assert runtime.golden_error(member, np.array(got, np.float32)) == problem
