"""Which runtime a member runs on, on this host: measured once, side by side, and remembered.

Tree models always run on ONNX Runtime (OpenVINO has no tree operators). For text models the fastest runtime that still gives the
golden outputs wins.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.files import write_atomically
from deploy.triton import backend_model
from ranking.errors import InvalidRelease
from ranking.release import Member, TensorSpec

_ROWS = 16  # enough rows to be bound by arithmetic, few enough to measure a BERT in a second or two
_REPEATS = 3
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
_NUMPY = {"FP32": np.float32, "INT64": np.int64}


@dataclass(frozen=True, slots=True)
class Host:
    """The processor, as far as speed depends on it."""

    cpu: str
    threads: int
    bf16: bool  # computes in bfloat16 natively; where it is emulated it is slower and less exact for nothing

    def text_runtimes(self) -> tuple[str, ...]:
        return ("onnxruntime", "openvino-bf16" if self.bf16 else "openvino-f32")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a member runs on."""

    runtime: str  # one of backend_model.RUNTIMES
    threads: int
    milliseconds: Mapping[str, float]  # per runtime measured, for a batch of `_ROWS`; empty where there was nothing to choose


def host() -> Host:
    """This machine."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()]
    facts = {key.strip(): value.strip() for key, _, value in lines}
    flags = set(facts.get("flags", "").split())
    return Host(facts.get("model name", "unknown"), len(os.sched_getaffinity(0)), any(f in flags for f in _BF16_FLAGS))


def choose(member: Member, model: Path, cache: Path, machine: Host) -> Choice:
    """The runtime for `member` on `machine`; measured at the first call for this model and machine, then read from `cache`.

    Args:
        member: the manifest's entry.
        model: its ONNX file, verified.
        cache: JSON file; made if absent.
        machine: from `host()`.

    Raises:
        InvalidRelease: no runtime runs the model or gives its golden outputs; the message says what each one did.
    """
    if member.kind == "features":
        return Choice("onnxruntime", 1, {})  # a few trees over a hundred rows: starting threads costs more than it saves
    key = f"{machine.cpu}|{machine.threads}|{'bf16' if machine.bf16 else 'f32'}|{member.sha256}"
    known = _remembered(cache)
    if known.get(key, {}).get("runtime") in machine.text_runtimes():
        return Choice(known[key]["runtime"], machine.threads, known[key]["milliseconds"])
    choice = _measure(member, model, machine)
    write_atomically(cache, json.dumps(known | {key: {"runtime": choice.runtime, "milliseconds": choice.milliseconds}}, indent=2) + "\n")
    return choice


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


def golden_error(member: Member, got: NDArray[Any]) -> str:
    """Why `got` is not what the release promises; empty where it is.

    Args:
        member: whose golden outputs, (n,), and tolerance.
        got: the output of a runtime for the golden inputs.
    """
    want = np.array(member.golden.outputs)
    if got.shape not in (want.shape, (*want.shape, 1)):
        return f"output has shape {list(got.shape)}, expected {list(want.shape)}"
    values = got.reshape(-1).astype(np.float64)
    if not np.isfinite(values).all():
        return f"output {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite"
    errors = np.abs(values - want)
    worst = int(errors.argmax())
    if errors[worst] <= member.golden.atol:
        return ""
    return f"output {worst} is {values[worst]:.6g}, expected {want[worst]:.6g} within {member.golden.atol:g}"


def _measure(member: Member, model: Path, machine: Host) -> Choice:
    golden = golden_arrays(member.golden.inputs, member.inputs)
    rows = {name: np.resize(array, (_ROWS, *array.shape[1:])) for name, array in golden.items()}
    types = {s.name: f"TYPE_{s.dtype}" for s in member.inputs}
    times: dict[str, float] = {}
    problems = []
    for name in machine.text_runtimes():
        try:
            score = backend_model.open_scorer(model, name, types, member.output, machine.threads)
            problem = golden_error(member, score(golden))
            if not problem:
                times[name] = _median_ms(score, rows)
        except Exception as error:  # noqa: BLE001  the runtimes raise what they like; one that cannot run the model is not chosen
            problem = f"{type(error).__name__}: {error}"
        if problem:
            problems.append(f"{name}: {problem}")
    if not times:
        raise InvalidRelease("model.onnx", "; ".join(problems))
    return Choice(min(times, key=lambda name: times[name]), machine.threads, times)


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
