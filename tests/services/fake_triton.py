"""Speaks Triton's gRPC protocol and answers like the tiny test models; `python -m tests.services.fake_triton [port]` runs one."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.deploy.releases import bert_logits, trees_logits

_DTYPES = {"FP32": np.float32, "INT64": np.int64}


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Knows version 1 of `trees` and `bert`."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.model_version != "1" or request.model_name not in ("trees", "bert", "slow", "short"):
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.model_name}' version {request.model_version}"
            )
        if request.model_name == "slow":
            await asyncio.sleep(30)
        arrays = {
            t.name: np.frombuffer(raw, _DTYPES[t.datatype]).reshape(t.shape)
            for t, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        logits = bert_logits(arrays) if request.model_name == "bert" else trees_logits(arrays["features"])
        raw = logits.tobytes() if request.model_name != "short" else logits.tobytes()[:-4]
        output = service_pb2.ModelInferResponse.InferOutputTensor(name=request.outputs[0].name, datatype="FP32", shape=[len(logits), 1])
        return service_pb2.ModelInferResponse(model_name=request.model_name, outputs=[output], raw_output_contents=[raw], id=request.id)


async def start(port: int = 0) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(FakeTriton(), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, f"127.0.0.1:{bound}"


async def main() -> None:
    server, address = await start(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(address, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
