"""What a failed call says beyond its code and message: which fields are wrong, when to come back, and who refused it."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos ships no stubs
from grpc_status import rpc_status

T = TypeVar("T", bound=Message)
_DETAILS_KEY = "grpc-status-details-bin"
_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


class RefusedHere(grpc.aio.AioRpcError):
    """RESOURCE_EXHAUSTED of a call that was never sent: the client held it back, see `services.client.throttle`. Of both clients."""


def refused_here(wait_s: float) -> RefusedHere:
    """The error of a call that is held back.

    Args:
        wait_s: seconds after which to come back, as `retry_after_s` reads it from the error.
    """
    message, status = _refusal(max(round(wait_s * 1e3), 1))
    return RefusedHere(_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata((_DETAILS_KEY, status)), message)


@lru_cache(maxsize=64)  # whoever refuses, refuses often
def _refusal(wait_ms: int) -> tuple[str, bytes]:
    message = f"not sent, this client refused it: the server refuses calls for want of room; retry in {wait_ms / 1e3:.2g} s"
    status = status_pb2.Status(code=_EXHAUSTED.value[0], message=message)
    later = error_details_pb2.RetryInfo()
    later.retry_delay.FromMilliseconds(wait_ms)
    status.details.add().Pack(later)
    return message, status.SerializeToString()


def overload_wait_s(error: grpc.RpcError) -> float | None:
    """Seconds after which to come back, if a server refused the call because it has too much to do; None: any other error.

    RESOURCE_EXHAUSTED alone is not enough: gRPC itself says so of a message that is too large, and a gateway of a caller beyond its quota.
    The first has no RetryInfo, the second a QuotaFailure beside it; neither says anything about the server's load.
    """
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError) or error.code() is not _EXHAUSTED:
        return None
    try:
        return None if _detail(error, error_details_pb2.QuotaFailure()) is not None else retry_after_s(error)
    except (ValueError, DecodeError):  # a status that something between here and there has garbled
        return None


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
