"""The code that runs inside Triton's Python backend: one ONNX model on ONNX Runtime or OpenVINO.

A copy of this file stands in every version directory as `model.py`, beside `model.onnx` and `run.json`, so it imports nothing
of ours. `deploy.triton.runtime` imports it too: what is measured is what will run.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

RUNTIMES = ("onnxruntime", "openvino-f32", "openvino-bf16")
CUDA = "onnxruntime-cuda"
CUDA_VARIABLE = "LONGTAIL_TRITON_CUDA"
"""Set to 1 in the environment of a Triton with a GPU: models run there instead of where the machine that placed them found best."""
_CONSUMED = ctypes.c_char_p(b"used_dltensor")  # the capsule keeps the pointer, so the text must live as long as the module
_ONNX = {"TYPE_FP32": "tensor(float)", "TYPE_INT64": "tensor(int64)"}
_OPENVINO = {"TYPE_FP32": "f32", "TYPE_INT64": "i64"}

Inputs = Mapping[str, "np.ndarray[Any, Any]"]
Scorer = Callable[[Inputs], "np.ndarray[Any, np.dtype[np.float32]]"]


def open_scorer(path: Path, runtime: str, inputs: Mapping[str, str], output: str, threads: int) -> Scorer:
    """Load a model and return the function that runs one batch of n and gives (n,) float32.

    Args:
        path: the ONNX file.
        runtime: one of `RUNTIMES`, or `CUDA`.
        inputs: tensor name -> TYPE_FP32 or TYPE_INT64, exactly the model's inputs.
        output: the float32 output to return, (n,) or (n, 1).
        threads: CPU threads of one inference.

    Raises:
        ValueError: unknown runtime, or the model's inputs or outputs are not the given ones.
    """
    if runtime not in (*RUNTIMES, CUDA):
        raise ValueError(f"runtime: {runtime!r} is not one of {', '.join((*RUNTIMES, CUDA))}")
    if runtime in ("onnxruntime", CUDA):
        return _onnxruntime(path, inputs, output, threads, cuda=runtime == CUDA)
    return _openvino(path, runtime.removeprefix("openvino-"), inputs, output, threads)


def _onnxruntime(path: Path, inputs: Mapping[str, str], output: str, threads: int, *, cuda: bool) -> Scorer:
    import onnxruntime

    known = onnxruntime.get_available_providers()
    if cuda and "CUDAExecutionProvider" not in known:  # ONNX Runtime itself would go on without, and only say so in the log
        raise ValueError(f"{CUDA_VARIABLE}: this ONNX Runtime has no CUDAExecutionProvider, only {', '.join(known)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would take cores from the gateway
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), options, providers=[*(["CUDAExecutionProvider"] if cuda else []), "CPUExecutionProvider"]
    )
    _check("inputs", {n: _ONNX[t] for n, t in inputs.items()}, {i.name: i.type for i in session.get_inputs()})
    _check("output", {output: "tensor(float)"}, {o.name: o.type for o in session.get_outputs() if o.name == output})
    return lambda batch: np.ascontiguousarray(session.run([output], dict(batch))[0]).reshape(-1)


def _openvino(path: Path, precision: str, inputs: Mapping[str, str], output: str, threads: int) -> Scorer:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    _check("inputs", {n: _OPENVINO[t] for n, t in inputs.items()}, {i.any_name: i.element_type.get_type_name() for i in model.inputs})
    found = {n: o.element_type.get_type_name() for o in model.outputs for n in o.names if n == output}
    _check("output", {output: "f32"}, found)
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    # The request reuses its output buffer: copy before the next batch overwrites it.
    return lambda batch: np.array(request.infer(dict(batch))[output], np.float32).reshape(-1)


def _check(what: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> None:
    if dict(wanted) != dict(found):
        raise ValueError(f"{what}: the release says {dict(sorted(wanted.items()))}, the model has {dict(sorted(found.items()))}")


def _tensor(pb: Any, name: str, array: np.ndarray[Any, Any]) -> Any:
    """The backend's tensor of a contiguous array.

    By DLPack: the backend's own conversion of numpy 2 arrays gives empty tensors, silently. The backend renames the capsule it has
    consumed to "used_dlpack", where DLPack (and numpy, when the capsule is freed) says "used_dltensor": without the right name
    numpy prints a complaint for every answer.
    """
    capsule = array.__dlpack__()
    tensor = pb.Tensor.from_dlpack(name, capsule)
    if ctypes.pythonapi.PyCapsule_SetName(ctypes.py_object(capsule), _CONSUMED):
        raise RuntimeError("could not mark the DLPack capsule as consumed")
    return tensor


class TritonPythonModel:
    """What the Python backend looks for in `model.py`: one instance per loaded version."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the model; an exception here makes the version UNAVAILABLE with this message."""
        config = json.loads(args["model_config"])
        here = Path(args["model_repository"]) / args["model_version"]
        run = json.loads((here / "run.json").read_text(encoding="utf-8"))
        self._types = {i["name"]: i["data_type"] for i in config["input"]}
        self._output = str(config["output"][0]["name"])
        runtime = CUDA if os.environ.get(CUDA_VARIABLE) == "1" else run["runtime"]
        self._score = open_scorer(here / "model.onnx", runtime, self._types, self._output, run["threads"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton joined, in one run; where that fails each by itself, so that a bad one fails alone."""
        import triton_python_backend_utils as pb

        batches = [{n: np.from_dlpack(pb.get_input_tensor_by_name(request, n)) for n in self._types} for request in requests]
        if len(batches) > 1:
            try:
                joined = self._score({n: np.concatenate([batch[n] for batch in batches]) for n in self._types})
                ends = np.cumsum([len(next(iter(batch.values()))) for batch in batches])[:-1]
                return [pb.InferenceResponse([_tensor(pb, self._output, _column(part))]) for part in np.split(joined, ends)]
            except Exception:  # noqa: BLE001, S110  the runtimes raise what they like; who is to blame shows below
                pass
        answers = []
        for batch in batches:
            try:
                answers.append(pb.InferenceResponse([_tensor(pb, self._output, _column(self._score(batch)))]))
            except Exception as error:  # noqa: BLE001  as above; the caller gets it as the request's error
                answers.append(pb.InferenceResponse([], pb.TritonError(f"{type(error).__name__}: {error}")))
        return answers


def _column(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(n,) as a contiguous (n, 1) of its own: the first dimension is the batch, and Triton wants another."""
    return np.ascontiguousarray(scores.reshape(-1, 1), np.float32)
