"""`python -m services.rpc.probe HOST:PORT [SERVICE]`: whether a server says SERVING, by its exit status, for container health checks."""

from __future__ import annotations

import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_WAIT_S = 3.0


def serving(address: str, service: str = "") -> str:
    """Empty where `service`, by default the server as a whole, is SERVING; else what it says instead."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # the type stubs leave its methods out
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=_WAIT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    said = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "" if said == "SERVING" else said


def main(arguments: list[str]) -> int:
    """0: SERVING; 1: not; 2: asked wrongly."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m services.rpc.probe HOST:PORT [SERVICE]", file=sys.stderr)
        return 2
    problem = serving(*arguments)
    if problem:
        print(f"{arguments[0]}: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
