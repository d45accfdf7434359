"""The Triton adapter: the only module of `services` that imports tritonclient.

It uses tritonclient's own protobuf stubs on a grpc.aio channel and not its `InferenceServerClient`: the request is one message built from
arrays' bytes, about 0.2 ms of processor time less per call when tried side by side (100 rows), and the channel's options are ours.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from ranking.errors import Unavailable
from ranking.types import Float32Array
from services.rpc import tracing

_DTYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}
_CHANNEL = [
    # A killed server is back in seconds: do not sit out gRPC's default backoff of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class Triton:
    """One channel to one Triton (or to a name that resolves to several)."""

    def __init__(self, address: str) -> None:
        """Prepare the channel; nothing is connected before the first call. Needs a running event loop."""
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL)
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer

    async def infer(self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str, timeout_s: float) -> Float32Array:
        """See `ports.ModelServer.infer`. The version is always pinned; `timeout_s` ends the call on both sides."""
        request = service_pb2.ModelInferRequest(
            model_name=model,
            model_version=str(version),
            id=uuid.uuid4().hex,
            inputs=[
                service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=_DTYPES[a.dtype], shape=a.shape)
                for name, a in inputs.items()
            ],
            outputs=[service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=output)],
            raw_input_contents=[a.tobytes() for a in inputs.values()],
        )
        try:
            with tracing.asking("triton.infer", model=model, version=version, rows=len(next(iter(inputs.values())))):
                response = await self._infer(request, timeout=timeout_s, metadata=tracing.outgoing())
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(f"{model} version {version}: no answer within {timeout_s:.3f} s") from None
            raise Unavailable(f"{model} version {version}: {error.code().name}: {error.details()}") from None
        n = len(next(iter(inputs.values())))
        if len(response.raw_output_contents) != 1 or len(response.raw_output_contents[0]) != 4 * n:
            size = len(response.raw_output_contents[0]) if response.raw_output_contents else 0
            raise Unavailable(f"{model} version {version}: output {output} has {size} bytes, expected {n} float32")
        return np.frombuffer(response.raw_output_contents[0], np.float32)

    async def close(self) -> None:
        """Close the channel; running calls are cancelled."""
        await self._channel.close()
