"""Which of its variants a member runs in and on which runtime, on this host: measured once, side by side, and remembered.

Tree models always run on ONNX Runtime (OpenVINO has no tree operators). For text models the release says which variants may be served
and in which order it prefers them, the host which of them it can compute: the fastest that gives its golden outputs wins, and one that
is as good as fast where the release prefers it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.files import write_atomically
from deploy.triton import backend_model
from deploy.triton.target import CPU, GPU, ONNXRUNTIME, Target
from ranking.errors import InvalidRelease
from ranking.release import Member, TensorSpec
from ranking.variants import BF16, FP32, INT8

_ROWS = 16  # enough rows to be bound by arithmetic, few enough to measure a BERT in a second or two
_REPEATS = 3
_ALIKE = 0.1  # of the time: less is not worth another precision
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
_OWN_BACKEND = {CPU: (FP32, INT8), GPU: (FP32,)}  # eight-bit products that are quantised as they come have no CUDA kernels
_NUMPY = {"FP32": np.float32, "INT64": np.int64}


@dataclass(frozen=True, slots=True)
class Host:
    """The processor, as far as speed depends on it."""

    cpu: str
    threads: int
    bf16: bool  # computes in bfloat16 natively; where it is emulated it is slower and less exact for nothing

    def text_runtimes(self) -> tuple[str, ...]:
        return ("onnxruntime", "openvino-bf16" if self.bf16 else "openvino-f32")

    def forms(self, member: Member) -> tuple[Form, ...]:
        """What a text member may run as here, in the release's order; a release that names no variants leaves the precision open."""
        if not member.variants.served:
            return tuple(Form("", member.path, name, member.golden.atol) for name in self.text_runtimes())
        return tuple(Form(v.name, v.path, name, v.atol) for v in member.variants.served for name in self._runtimes_of(v.name))

    def _runtimes_of(self, variant: str) -> tuple[str, ...]:
        if variant == BF16:
            return ("openvino-bf16",) if self.bf16 else ()
        return ("onnxruntime", "openvino-f32") if variant == FP32 else ("onnxruntime",)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to run a member."""

    variant: str  # empty: the release names none
    path: str  # its ONNX file, relative to the release directory
    runtime: str
    atol: float  # of its golden outputs

    def __str__(self) -> str:
        return f"{self.variant} on {self.runtime}" if self.variant else self.runtime


@dataclass(frozen=True, slots=True)
class Choice:
    """What a member runs on."""

    runtime: str  # one of backend_model.RUNTIMES
    threads: int
    milliseconds: Mapping[str, float]  # per form measured, for a batch of `_ROWS`; empty where there was nothing to choose
    variant: str = ""  # of the release's; empty where it names none


def host() -> Host:
    """This machine."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()]
    facts = {key.strip(): value.strip() for key, _, value in lines}
    flags = set(facts.get("flags", "").split())
    return Host(facts.get("model name", "unknown"), len(os.sched_getaffinity(0)), any(f in flags for f in _BF16_FLAGS))


def choose(member: Member, directory: Path, cache: Path, machine: Host, target: Target) -> Choice:
    """What `member` runs as on `machine`; measured at the first call for these files and machine, then read from `cache`.

    Triton's own ONNX Runtime backend runs elsewhere, maybe on another machine, and leaves nothing to measure: it gets what the release
    prefers of what it can compute.

    Args:
        member: the manifest's entry.
        directory: its release's directory, verified.
        cache: JSON file; made if absent.
        machine: from `host()`.
        target: what the model repository is written for.

    Raises:
        InvalidRelease: nothing runs the model or gives its golden outputs; the message says what each form did.
    """
    if member.kind == "features":
        return Choice("onnxruntime", 1, {})  # a few trees over a hundred rows: starting threads costs more than it saves
    if target.backend == ONNXRUNTIME:
        allowed = [v.name for v in member.variants.served if v.name in _OWN_BACKEND[target.device]]
        if member.variants.served and not allowed:
            raise InvalidRelease("variants", f"none that the release allows runs on the {ONNXRUNTIME} backend with {target.device}")
        return Choice(ONNXRUNTIME, 1, {}, allowed[0] if allowed else "")
    forms = machine.forms(member)
    files = "+".join(dict.fromkeys([member.sha256, *(v.sha256 for v in member.variants.served)]))
    key = f"{machine.cpu}|{machine.threads}|{'bf16' if machine.bf16 else 'f32'}|{files}"
    known = _remembered(cache)
    if (found := known.get(key, {})) and (found.get("variant", ""), found.get("runtime")) in {(f.variant, f.runtime) for f in forms}:
        return Choice(found["runtime"], machine.threads, found["milliseconds"], found.get("variant", ""))
    choice = _measure(member, forms, directory, machine)
    entry = {"variant": choice.variant, "runtime": choice.runtime, "milliseconds": choice.milliseconds}
    write_atomically(cache, json.dumps(known | {key: entry}, indent=2) + "\n")
    return choice


def file_of(member: Member, variant: str) -> str:
    """The ONNX file of a member's variant, relative to the release directory."""
    return next((v.path for v in member.variants.served if v.name == variant), member.path)


def tolerance(member: Member, variant: str) -> float:
    """How far a variant's golden outputs may be off."""
    return next((v.atol for v in member.variants.served if v.name == variant), member.golden.atol)


def gives_scalars(model: Path, output: str) -> bool:
    """Whether an ONNX model gives (n,) scores and not (n, 1).

    Raises:
        InvalidRelease: it is no model, or has no such output.
    """
    import onnxruntime

    try:
        found = {o.name: len(o.shape) for o in onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_outputs()}
    except Exception as error:  # noqa: BLE001  the runtime raises what it likes
        raise InvalidRelease(model.name, str(error)) from None
    if output not in found:
        raise InvalidRelease(model.name, f"output: the release says {output!r}, the model has {sorted(found)}")
    return found[output] == 1


def golden_arrays(inputs: Mapping[str, Any], specs: tuple[TensorSpec, ...]) -> dict[str, NDArray[Any]]:
    """Golden inputs as arrays of their declared types.

    Raises:
        InvalidRelease: a tensor is absent, is not declared or does not have its declared shape.
    """
    if set(inputs) != {s.name for s in specs}:
        raise InvalidRelease("golden.inputs", f"are {sorted(inputs)}, the model's inputs are {sorted(s.name for s in specs)}")
    arrays: dict[str, NDArray[Any]] = {}
    for spec in specs:
        try:
            array = np.asarray(inputs[spec.name], _NUMPY[spec.dtype])
        except (ValueError, TypeError, OverflowError) as wrong:
            raise InvalidRelease(f"golden.inputs.{spec.name}", str(wrong)) from None
        if array.ndim != len(spec.shape) or any(want not in (-1, have) for want, have in zip(spec.shape, array.shape, strict=True)):
            raise InvalidRelease(f"golden.inputs.{spec.name}", f"has shape {list(array.shape)}, declared is {list(spec.shape)}")
        arrays[spec.name] = array
    return arrays


def golden_error(member: Member, got: NDArray[Any], atol: float) -> str:
    """Why `got` is not what the release promises; empty where it is.

    Args:
        member: whose golden outputs, (n,).
        got: the output of a runtime for the golden inputs.
        atol: largest error allowed to the variant that gave it.
    """
    want = np.array(member.golden.outputs)
    if got.shape not in (want.shape, (*want.shape, 1)):
        return f"output has shape {list(got.shape)}, expected {list(want.shape)}"
    values = got.reshape(-1).astype(np.float64)
    if not np.isfinite(values).all():
        return f"output {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite"
    errors = np.abs(values - want)
    worst = int(errors.argmax())
    if errors[worst] <= atol:
        return ""
    return f"output {worst} is {values[worst]:.6g}, expected {want[worst]:.6g} within {atol:g}"


def _measure(member: Member, forms: Sequence[Form], directory: Path, machine: Host) -> Choice:
    golden = golden_arrays(member.golden.inputs, member.inputs)
    rows = {name: np.resize(array, (_ROWS, *array.shape[1:])) for name, array in golden.items()}
    types = {s.name: f"TYPE_{s.dtype}" for s in member.inputs}
    times: dict[Form, float] = {}
    problems = []
    for form in forms:
        try:
            score = backend_model.open_scorer(directory / form.path, form.runtime, types, member.output, machine.threads)
            problem = golden_error(member, score(golden), form.atol)
            if not problem:
                times[form] = _median_ms(score, rows)
        except Exception as error:  # noqa: BLE001  the runtimes raise what they like; one that cannot run the model is not chosen
            problem = f"{type(error).__name__}: {error}"
        if problem:
            problems.append(f"{form}: {problem}")
    if not times:
        raise InvalidRelease("model.onnx", "; ".join(problems) or "no variant that the release allows can be computed on this processor")
    best = _preferred(times)
    return Choice(best.runtime, machine.threads, {str(form): ms for form, ms in times.items()}, best.variant)


def _preferred(times: Mapping[Form, float]) -> Form:
    """The fastest form of the first variant, in the release's order, whose fastest form is about as fast as any."""
    variants: dict[str, Form] = {}
    for form in sorted(times, key=lambda f: times[f], reverse=True):
        variants[form.variant] = form  # the last one is the fastest
    fastest = min(times.values())
    order = dict.fromkeys(form.variant for form in times)
    return next(variants[name] for name in order if times[variants[name]] <= fastest * (1 + _ALIKE))


def _median_ms(score: backend_model.Scorer, rows: Mapping[str, NDArray[Any]]) -> float:
    score(rows)  # the first run of a shape compiles
    taken = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        score(rows)
        taken.append((time.perf_counter() - began) * 1e3)
    return round(float(np.median(taken)), 3)


def _remembered(cache: Path) -> dict[str, Any]:
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # lost or torn: measure again
        return {}
    return known if isinstance(known, dict) else {}
