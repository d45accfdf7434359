"""The calls of tritonclient, which no other module of this room makes. In and out: numpy arrays, plain values, our errors.

Control calls and verification only, synchronous; the gateway has its own asynchronous client for traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from ranking.errors import LongtailError, Unavailable
from ranking.release import TensorSpec
from ranking.types import Float32Array

_QUICK_S = 5.0
_LOAD_S = 180.0  # a BERT on a busy two-core machine, with room
_INFER_S = 60.0
_GONE = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")


class TritonRefused(LongtailError):  # noqa: N818  named after what happened, like its siblings in ranking.errors
    """Triton answered, and said no; the message is Triton's."""


@dataclass(frozen=True, slots=True)
class VersionState:
    """One line of the repository index."""

    state: str  # READY, UNAVAILABLE, LOADING, UNLOADING; empty for a version that was never loaded
    reason: str


@dataclass(frozen=True, slots=True)
class Signature:
    """What a loaded version says it takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class TritonClient:
    """A connection to one server. Every method raises Unavailable when it does not answer, TritonRefused when it says no."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = InferenceServerClient(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def server_ready(self) -> bool:
        """Whether the server answers; never raises."""
        try:
            return bool(self._client.is_server_ready(client_timeout=_QUICK_S))
        except InferenceServerException:
            return False

    def load(self, model: str) -> None:
        """(Re)load a model from the repository. Returning is no proof that every version is ready: ask the index."""
        self._call(self._client.load_model, model, client_timeout=_LOAD_S)

    def unload(self, model: str) -> None:
        """Unload every version of a model; running inferences finish first."""
        self._call(self._client.unload_model, model, client_timeout=_QUICK_S)

    def index(self) -> dict[tuple[str, int], VersionState]:
        """State of every (model, version) the server has tried to load."""
        answer = self._call(self._client.get_model_repository_index, client_timeout=_QUICK_S)
        return {(m.name, int(m.version)): VersionState(m.state, _sentence(m.reason)) for m in answer.models if m.version}

    def model_ready(self, model: str, version: int) -> bool:
        return bool(self._call(self._client.is_model_ready, model, str(version), client_timeout=_QUICK_S))

    def signature(self, model: str, version: int) -> Signature:
        answer = self._call(self._client.get_model_metadata, model, str(version), client_timeout=_QUICK_S)
        return Signature(_specs(answer.inputs), _specs(answer.outputs))

    def infer(self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str) -> Float32Array:
        """Run one batch on a pinned version.

        Args:
            model: a loaded model.
            version: one of its versions that is ready.
            inputs: tensor name -> float32 or int64 array.
            output: the output to return.

        Returns:
            The output as the server shaped it.
        """
        tensors = []
        for name, array in inputs.items():
            tensor = InferInput(name, list(array.shape), "INT64" if array.dtype == np.int64 else "FP32")
            tensors.append(tensor.set_data_from_numpy(np.ascontiguousarray(array)))
        answer = self._call(
            self._client.infer, model, tensors, str(version), outputs=[InferRequestedOutput(output)], client_timeout=_INFER_S
        )
        return np.asarray(answer.as_numpy(output), np.float32)

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except InferenceServerException as error:
            if error.status() in _GONE:
                raise Unavailable(f"Triton at {self.address} did not answer: {error.message()}") from None
            raise TritonRefused(_sentence(str(error.message()))) from None


def _specs(tensors: Any) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)) for t in tensors)


def _sentence(message: str) -> str:
    """What went wrong, without the stack of the model's code that the Python backend adds."""
    return message.partition("\n\nAt:\n")[0].strip()
