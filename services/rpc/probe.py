"""`python -m services.rpc.probe HOST:PORT [SERVICE]`: whether a server says SERVING, by its exit status, for container health checks.

Over TLS with `--ca FILE` (LONGTAIL_TLS_CA), under another name than HOST with `--name`, and with a certificate of its own, where the server
asks for one, with `--cert` and `--key`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_WAIT_S = 3.0


def serving(address: str, service: str = "", credentials: grpc.ChannelCredentials | None = None, name: str = "") -> str:
    """Empty where `service` is SERVING; else what the server says instead.

    Args:
        address: `host:port`.
        service: full name; empty: the server as a whole.
        credentials: None: plain text.
        name: the server's certificate is for; empty: the address' host.
    """
    options = [("grpc.ssl_target_name_override", name)] if name else []
    with grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # the type stubs leave its methods out
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=_WAIT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    said = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "" if said == "SERVING" else said


def main(arguments: Sequence[str]) -> int:
    """0: SERVING; 1: not; 2: asked wrongly, as argparse exits."""
    parser = argparse.ArgumentParser(prog="python -m services.rpc.probe")
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("service", nargs="?", default="", help="full name of a service; default: the server as a whole")
    parser.add_argument("--ca", default=os.environ.get("LONGTAIL_TLS_CA", ""), help="PEM file of whom to trust; default: plain text")
    parser.add_argument("--cert", default="", help="PEM file of a certificate to show")
    parser.add_argument("--key", default="", help="PEM file of its key")
    parser.add_argument("--name", default="", help="that the server's certificate is for; default: HOST")
    asked = parser.parse_args(arguments)
    if bool(asked.cert) != bool(asked.key):
        parser.error("--cert and --key go together")
    if asked.cert and not asked.ca:
        parser.error("--cert needs --ca")
    try:
        files = [Path(path).read_bytes() if path else None for path in (asked.ca, asked.key, asked.cert)]
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    problem = serving(asked.address, asked.service, grpc.ssl_channel_credentials(*files) if asked.ca else None, asked.name)
    if problem:
        print(f"{asked.address}: {problem}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
