"""What a failed call says beyond its code and message: which fields are wrong, and when to come back."""

from __future__ import annotations

from typing import TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # googleapis-common-protos ships no stubs
from grpc_status import rpc_status

T = TypeVar("T", bound=Message)


def retry_after_s(error: grpc.RpcError) -> float | None:
    """Seconds after which the same call may succeed, of RESOURCE_EXHAUSTED; None: the gateway did not say. Add some jitter to it."""
    info = _detail(error, error_details_pb2.RetryInfo())
    return None if info is None else info.retry_delay.ToNanoseconds() / 1e9


def violations(error: grpc.RpcError) -> dict[str, str]:
    """Field -> what is wrong with it, of INVALID_ARGUMENT; empty for any other error."""
    found = _detail(error, error_details_pb2.BadRequest())
    return {} if found is None else {v.field: v.description for v in found.field_violations}


def _detail(error: grpc.RpcError, kind: T) -> T | None:
    """The error's detail of this kind, filled in."""
    status = rpc_status.from_call(error)
    if status is not None:
        for packed in status.details:
            if packed.Unpack(kind):
                return kind
    return None
