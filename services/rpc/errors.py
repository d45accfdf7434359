"""One table from the domain's errors to gRPC status codes, and the details that go with each.

An exception that is not in the table is a bug: it becomes INTERNAL, its text stays in the log.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos ships no stubs

from ranking.errors import InvalidField, InvalidFields, InvalidRelease, LongtailError, NotReady, Unavailable, UnknownName

log = logging.getLogger(__name__)

CODES: dict[type[LongtailError], grpc.StatusCode] = {
    InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidFields: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownName: grpc.StatusCode.NOT_FOUND,
    InvalidRelease: grpc.StatusCode.FAILED_PRECONDITION,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}
DETAILS_KEY = "grpc-status-details-bin"
# Status and details travel as HTTP/2 trailers, of which a client takes 8 kB by default: both are cut well below that.
_MESSAGE_LIMIT = 1000  # characters; each may take 3 bytes once percent-encoded
_DETAILS_LIMIT = 3500  # bytes; base64 makes it a third more


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status code of an error: the nearest class of the table, INTERNAL for anything else."""
    for cls in type(error).__mro__:
        if cls in CODES:
            return CODES[cls]
    return grpc.StatusCode.INTERNAL


def violations(error: BaseException) -> tuple[InvalidField, ...]:
    """Every offending field the error names; empty for errors that are not about fields."""
    if isinstance(error, InvalidFields):
        return error.violations
    return (error,) if isinstance(error, InvalidField) else ()


def to_status(error: BaseException) -> status_pb2.Status:
    """The rich status of an error: code, message and google.rpc details.

    Fields that no longer fit the trailers are counted in a last violation instead of named.
    """
    code = code_of(error)
    number: int = code.value[0]
    if code is grpc.StatusCode.INTERNAL:
        return status_pb2.Status(code=number, message="internal error; the server's log has the cause")
    text = str(error)
    status = status_pb2.Status(code=number, message=text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…")
    details = _details(error)
    if details is not None:
        packed = any_pb2.Any()
        packed.Pack(details)
        status.details.append(packed)
    return status


def _details(error: BaseException) -> Message | None:
    if isinstance(error, UnknownName):
        info: Message = error_details_pb2.ResourceInfo(resource_type=error.field, resource_name=error.name)
        return info
    found = violations(error)
    if not found:
        return None
    bad: Any = error_details_pb2.BadRequest()
    size = 0
    for named, v in enumerate(found):
        size += len(v.field.encode()) + len(v.reason.encode()) + 8
        if size > _DETAILS_LIMIT:
            bad.field_violations.add(field=v.field, description=f"and {len(found) - named} more violations from here on")
            break
        bad.field_violations.add(field=v.field, description=v.reason)
    assert isinstance(bad, Message)
    return bad


async def abort(context: grpc.aio.ServicerContext[Message, Message], error: BaseException) -> NoReturn:
    """End the call with the error's status; an error outside the table is logged with its traceback first."""
    status = to_status(error)
    code = code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        log.error("internal_error", exc_info=error)
    await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))
