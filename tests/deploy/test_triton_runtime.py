"""Which runtime a member gets: the fastest that gives the golden outputs, measured once per model and machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy.triton import backend_model, runtime
from deploy.triton.target import CPU, GPU, ONNXRUNTIME, Target
from ranking.errors import InvalidRelease
from ranking.release import Golden, Member
from ranking.variants import BOUNDS, Parity, Variant, Variants
from tests.deploy.releases import TEXT_INPUTS, bert_logits, bert_model, build_release, text_batch

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
    assert runtime.choose(trees, directory, tmp_path / "cache.json", HOST, Target()) == runtime.Choice("onnxruntime", 1, {})
    assert not (tmp_path / "cache.json").exists()


def test_the_faster_runtime_is_chosen_and_remembered(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """Both are measured, the smaller time wins, and a second call reads the answer (no model file needed)."""
    directory, _, bert = release
    cache = tmp_path / "cache.json"
    chosen = runtime.choose(bert, directory, cache, HOST, Target())
    assert set(chosen.milliseconds) == {"onnxruntime", "openvino-f32"}
    assert chosen.milliseconds[chosen.runtime] == min(chosen.milliseconds.values())
    assert runtime.choose(bert, tmp_path / "gone", cache, HOST, Target()) == chosen


def test_another_model_or_machine_is_measured_anew(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """What was measured elsewhere, or for other weights, says nothing here."""
    directory, _, bert = release
    cache = tmp_path / "cache.json"
    runtime.choose(bert, directory, cache, HOST, Target())
    runtime.choose(bert, directory, cache, dataclasses.replace(HOST, cpu="other"), Target())
    runtime.choose(dataclasses.replace(bert, sha256="0" * 64), directory, cache, HOST, Target())
    assert len(json.loads(cache.read_text())) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"test'])
def test_a_torn_cache_is_measured_again(release: tuple[Path, Member, Member], tmp_path: Path, content: str) -> None:
    """The cache is a convenience: whatever is wrong with it, the choice is made."""
    directory, _, bert = release
    (tmp_path / "cache.json").write_text(content)
    assert runtime.choose(bert, directory, tmp_path / "cache.json", HOST, Target()).runtime in backend_model.RUNTIMES


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
    chosen = runtime.choose(bert, directory, tmp_path / "cache.json", HOST, Target())
    assert (chosen.runtime, set(chosen.milliseconds)) == ("openvino-f32", {"openvino-f32"})


def test_a_model_no_runtime_runs_is_refused_with_every_reason(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """When nothing runs the model, the error says what each runtime said, and nothing is remembered."""
    directory, _, bert = release
    (directory / bert.path).write_bytes(b"not an onnx file")
    with pytest.raises(InvalidRelease, match=r"model\.onnx: onnxruntime: .*; openvino-f32: ") as caught:
        runtime.choose(bert, directory, tmp_path / "cache.json", HOST, Target())
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
    assert runtime.golden_error(member, np.array(got, np.float32), member.golden.atol) == problem


def _with_variants(directory: Path, member: Member, *names: str) -> Member:
    """The member with these variants, which but for fp32 are files of their own, off by half their bound."""
    served = []
    for name in names:
        path = member.path if name == "fp32" else f"models/bert/model.{name}.onnx"
        if name != "fp32":
            onnx.save(bert_model(BOUNDS[name].max_error / 2), directory / path)
        served.append(Variant(name, path, name, Parity(64, BOUNDS[name].max_error / 2, 1.0)))
    return dataclasses.replace(member, variants=Variants(tuple(served)))


def test_each_variant_is_judged_by_its_own_tolerance(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """int8 may be off by what would be another model in fp32, and the one file never stands in for the other."""
    directory, _, bert = release
    allowed = _with_variants(directory, bert, "fp32", "int8")
    chosen = runtime.choose(allowed, directory, tmp_path / "cache.json", HOST, Target())
    assert set(chosen.milliseconds) == {"fp32 on onnxruntime", "fp32 on openvino-f32", "int8 on onnxruntime"}
    assert runtime.file_of(allowed, "int8") == "models/bert/model.int8.onnx"
    assert (runtime.tolerance(allowed, "int8"), runtime.tolerance(allowed, "fp32")) == (0.1, 1e-3)
    onnx.save(bert_model(2 * BOUNDS["int8"].max_error), directory / "models/bert/model.int8.onnx")
    again = runtime.choose(allowed, directory, tmp_path / "other.json", HOST, Target())
    assert set(again.milliseconds) == {"fp32 on onnxruntime", "fp32 on openvino-f32"}


def test_a_release_that_allows_nothing_this_processor_computes_is_refused(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """bfloat16 alone, on a processor without it."""
    directory, _, bert = release
    with pytest.raises(InvalidRelease, match="no variant that the release allows can be computed on this processor"):
        runtime.choose(_with_variants(directory, bert, "bf16"), directory, tmp_path / "cache.json", HOST, Target())


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({"fp32 onnxruntime": 10, "fp32 openvino-f32": 12, "bf16 openvino-bf16": 9.5}, "fp32 onnxruntime"),
        ({"fp32 onnxruntime": 10, "fp32 openvino-f32": 4.2, "bf16 openvino-bf16": 4}, "fp32 openvino-f32"),
        ({"fp32 onnxruntime": 10, "bf16 openvino-bf16": 4, "int8 onnxruntime": 3.8}, "bf16 openvino-bf16"),
        ({"fp32 onnxruntime": 10, "bf16 openvino-bf16": 9, "int8 onnxruntime": 4}, "int8 onnxruntime"),
        ({" onnxruntime": 10, " openvino-f32": 9.9}, " openvino-f32"),
    ],
)
def test_the_releases_preference_decides_where_the_clock_does_not(times: dict[str, float], best: str) -> None:
    """The fastest wins; a variant the release prefers wins over one that is less than a tenth faster."""
    forms = {runtime.Form(name.split(" ")[0], "", name.split(" ")[1], 0.1): ms for name, ms in times.items()}
    chosen = runtime._preferred(forms)
    assert f"{chosen.variant} {chosen.runtime}" == best


@pytest.mark.parametrize(
    ("device", "allowed", "best"),
    [(CPU, ("int8", "fp32"), "int8"), (CPU, ("bf16", "fp32"), "fp32"), (GPU, ("int8", "fp32"), "fp32"), (CPU, (), "")],
)
def test_tritons_own_backend_gets_what_the_release_prefers(
    release: tuple[Path, Member, Member], tmp_path: Path, device: str, allowed: tuple[str, ...], best: str
) -> None:
    """It runs elsewhere, so nothing is measured: the first variant that it can compute there."""
    directory, _, bert = release
    member = _with_variants(directory, bert, *allowed)
    assert runtime.choose(member, directory, tmp_path / "cache.json", HOST, Target(ONNXRUNTIME, device)).variant == best
    assert not (tmp_path / "cache.json").exists()


def test_variants_that_no_container_runs_are_refused(release: tuple[Path, Member, Member], tmp_path: Path) -> None:
    """bfloat16 is OpenVINO's here."""
    directory, _, bert = release
    with pytest.raises(InvalidRelease, match="none that the release allows runs on the onnxruntime backend with gpu"):
        runtime.choose(_with_variants(directory, bert, "bf16"), directory, tmp_path / "c", HOST, Target(ONNXRUNTIME, GPU))


def test_the_shape_of_scores_is_read_from_the_model(release: tuple[Path, Member, Member]) -> None:
    """(n,) or (n, 1): Triton's own backend has to be told."""
    directory, trees, bert = release
    assert runtime.gives_scalars(directory / bert.path, "logit")
    assert not runtime.gives_scalars(directory / trees.path, "logit")
    with pytest.raises(InvalidRelease, match="the release says 'score', the model has"):
        runtime.gives_scalars(directory / bert.path, "score")
