"""One table from the domain's errors to gRPC status codes, and the details that go with each.

An exception that is not in the table is a bug: it becomes INTERNAL, its text stays in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos ships no stubs

from ranking.errors import (
    Forbidden,
    InvalidField,
    InvalidFields,
    InvalidRelease,
    LongtailError,
    NotReady,
    OutOfTime,
    Overloaded,
    OverQuota,
    Superseded,
    Unauthenticated,
    Unavailable,
    UnknownName,
)
from services.rpc import calls

log = logging.getLogger(__name__)

CODES: dict[type[LongtailError], grpc.StatusCode] = {
    InvalidField: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidFields: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownName: grpc.StatusCode.NOT_FOUND,
    InvalidRelease: grpc.StatusCode.FAILED_PRECONDITION,
    NotReady: grpc.StatusCode.UNAVAILABLE,
    Superseded: grpc.StatusCode.FAILED_PRECONDITION,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OverQuota: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
}
DETAILS_KEY = "grpc-status-details-bin"
# Status and details travel as HTTP/2 trailers, of which a client takes 8 kB by default; these limits keep them within 6 kB for any text.
# The message is there twice: percent-encoded as the call's message, and as UTF-8 in the status, which base64 makes a third longer.
_MESSAGE_LIMIT = 1000  # bytes once percent-encoded
_DETAILS_LIMIT = 2000  # bytes of violations, to which the last one, that counts the rest, is added
_TEXT_LIMIT = 400  # bytes of one field's name or description


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
    status = status_pb2.Status(code=number, message=_cut(text, _MESSAGE_LIMIT, _percent_encoded))
    details = _details(error)
    if details is not None:
        status.details.add().Pack(details)
    if isinstance(error, OverQuota):  # else a client would take it for an overload, and hold back from a server that has room
        quota: Any = error_details_pb2.QuotaFailure()
        quota.violations.add(description=_cut(text, _TEXT_LIMIT, _utf8))
        status.details.add().Pack(quota)
    return status


def _percent_encoded(character: str) -> int:
    """Bytes a character takes in a call's message: all but printable ASCII is sent as `%XX` for each UTF-8 byte."""
    return 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode())


def _utf8(character: str) -> int:
    return len(character.encode())


def _cut(text: str, limit: int, size: Callable[[str], int]) -> str:
    """The text, or as much of its beginning as fits `limit` together with an ellipsis."""
    if len(text) <= limit and text.isascii() and text.isprintable() and "%" not in text:  # nearly always: a refusal should cost little
        return text
    used = fitting = 0
    room = limit - size("…")
    for character in text:
        used += size(character)
        if used > limit:
            return text[:fitting] + "…"
        fitting += used <= room
    return text


def _details(error: BaseException) -> Message | None:
    if isinstance(error, UnknownName):
        info: Message = error_details_pb2.ResourceInfo(resource_type=error.field, resource_name=_cut(error.name, _TEXT_LIMIT, _utf8))
        return info
    if isinstance(error, Forbidden):
        what: Message = error_details_pb2.ErrorInfo(reason="SCOPE_MISSING", domain="longtail", metadata={"scope": error.scope})
        return what
    if isinstance(error, Overloaded):
        later: Any = error_details_pb2.RetryInfo()
        later.retry_delay.FromMilliseconds(max(round(error.retry_s * 1e3), 1))
        assert isinstance(later, Message)
        return later
    found = violations(error)
    if not found:
        return None
    bad: Any = error_details_pb2.BadRequest()
    size = 0
    for named, v in enumerate(found):
        field, reason = _cut(v.field, _TEXT_LIMIT, _utf8), _cut(v.reason, _TEXT_LIMIT, _utf8)
        size += len(field.encode()) + len(reason.encode()) + 8
        if size > _DETAILS_LIMIT:
            bad.field_violations.add(field=field, description=f"and {len(found) - named} more violations from here on")
            break
        bad.field_violations.add(field=field, description=reason)
    assert isinstance(bad, Message)
    return bad


async def abort(context: grpc.aio.ServicerContext[Message, Message], error: BaseException) -> NoReturn:
    """End the call with the error's status; an error outside the table is logged with its traceback first."""
    status = to_status(error)
    code = code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        log.error("internal_error", exc_info=error)
    id_ = calls.request_id()  # what is given here takes the place of trailing metadata set before
    named = ((calls.REQUEST_ID, id_),) if id_ else ()
    await context.abort(code, status.message, (*named, (DETAILS_KEY, status.SerializeToString())))
