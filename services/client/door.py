"""A client's own door: calls the throttle holds back do not leave, and how the others ended is told to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from services.client.errors import overload_wait_s, refused_here
from services.client.throttle import Throttle

_LET_IN = frozenset(  # what a server says only of calls it had room for
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INTERNAL,
    }
)


@contextmanager
def passing(throttle: Throttle | None) -> Iterator[None]:
    """Around one call, blocking or awaited.

    An answer is one, and so is an error of the call itself: there was room for it. A refusal for want of room is one. Everything else says
    nothing of the server's load and is not counted. UNAVAILABLE above all: it costs the server nothing, gRPC waits ever longer before it
    connects again, health checks lead calls elsewhere and repeats are throttled already; were it counted, clients would go on refusing
    for a window after a gateway was restarted. Nor a quota, which is the caller's. DEADLINE_EXCEEDED may be the caller's hurry and counts
    only while others are refused: then it is the flood's.

    Args:
        throttle: None: every call passes.

    Raises:
        RefusedHere: it is held back.
    """
    if throttle is None:
        yield
        return
    wait_s = throttle.ask()
    if wait_s is not None:
        raise refused_here(wait_s)
    try:
        yield
    except grpc.RpcError as error:
        wait_s = overload_wait_s(error)
        if wait_s is not None:
            throttle.refused(wait_s)
        elif isinstance(error, grpc.Call | grpc.aio.AioRpcError) and error.code() in _LET_IN:
            throttle.accepted()
        elif isinstance(error, grpc.Call | grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            throttle.late()
        else:
            throttle.untold()
        raise
    except BaseException:  # cancelled, or never sent
        throttle.untold()
        raise
    throttle.accepted()
