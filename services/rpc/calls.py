"""The call being answered: its request id, who calls, and the trace it belongs to, for whatever is logged, counted or sent on meanwhile.

Held in a context variable, so that tasks and `asyncio.to_thread` started by a call know it too. Knows neither gRPC nor OpenTelemetry.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass

from services.rpc.ids import new_id

REQUEST_ID = "x-request-id"  # metadata, both ways
CALLER = "x-caller"
TRACEPARENT = "traceparent"
UNNAMED = ""

_PRINTABLE = re.compile(r"[!-~]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9][\w.:/@-]{0,63}", re.ASCII)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@dataclass(slots=True)
class Call:
    """What is known of a call. Written by the interceptor and the servicer only.

    Attributes:
        request_id: the caller's, else made here.
        given: whether the caller gave it.
        caller: its token's or certificate's name, else the one it gives itself; empty where there is none, and until it was let in: who is
            not must not be counted under somebody's name, nor use up the names that metrics tell apart.
        surface: of a Rank call, once its message was read; empty else.
        traceparent: of the caller, as in W3C Trace Context; empty where there was none or it is malformed.
        trace_id: 32 hexadecimal digits, empty where there is no trace.
    """

    request_id: str
    given: bool = True
    caller: str = UNNAMED
    surface: str = ""
    traceparent: str = ""
    trace_id: str = ""


current: ContextVar[Call | None] = ContextVar("call", default=None)


def received(metadata: dict[str, str]) -> Call:
    """A call as its metadata describe it; what is not well-formed counts as not given, as it goes into logs and labels.

    Args:
        metadata: keys in lower case.
    """
    id_ = metadata.get(REQUEST_ID, "")
    given = _PRINTABLE.fullmatch(id_) is not None
    parent = _TRACEPARENT.fullmatch(metadata.get(TRACEPARENT, ""))
    return Call(
        request_id=id_ if given else new_id(),
        given=given,
        traceparent=parent.group(0) if parent else "",
        trace_id=parent.group(1) if parent else "",
    )


def well_formed(caller: str) -> str:
    """The name a caller gives itself, empty where it is none."""
    return caller if _NAME.fullmatch(caller) else UNNAMED


def named(request_id: str) -> None:
    """The message, too, may bring an id: it is the call's unless the metadata had one."""
    call = current.get()
    if call is not None and not call.given and _PRINTABLE.fullmatch(request_id):
        call.request_id = request_id


def request_id() -> str:
    """Of the call being answered; empty outside of one."""
    call = current.get()
    return call.request_id if call else ""
