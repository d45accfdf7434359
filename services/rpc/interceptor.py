"""The one place where exceptions become status codes: an interceptor around every unary method.

Also where calls are counted and refused beyond a limit: gRPC's own limit counts health streams too, so that idle watchers would use it up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from ranking.errors import InvalidField
from services.rpc import errors

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # quoted: grpc's classes take type arguments in the stubs only


@dataclass(frozen=True, slots=True)
class _Malformed:
    """In place of a request whose bytes are no message: only the method can choose a status, what a deserializer raises is UNKNOWN."""

    why: str


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Turns whatever a unary method raises into the status `services.rpc.errors` says, and bounds the calls of some services."""

    def __init__(self, limited: Iterable[str], limit: int) -> None:
        """Start with no call running.

        Args:
            limited: full names of the services whose unary calls count.
            limit: calls of each of them running at once; those beyond it get RESOURCE_EXHAUSTED. Each has its own, so that one whose
                store hangs does not shut out the others.
        """
        self._running = dict.fromkeys(limited, 0)
        self._limit = limit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:  # unknown method, or a stream (health's Watch, reflection)
            return handler
        method = handler.unary_unary
        service = str(handler_call_details.method).split("/")[1]  # of "/service/method"
        counted = service in self._running

        async def guarded(request: Any, context: Any) -> Any:
            if counted:
                if self._running[service] >= self._limit:
                    why = f"this process already answers {self._limit} calls, its limit; retry later or elsewhere"
                    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, why)
                self._running[service] += 1
            try:
                if isinstance(request, _Malformed):
                    raise InvalidField("request", f"is not a valid message: {request.why}")
                return await method(request, context)
            except grpc.aio.AbortError:  # the method already chose its status
                raise
            except Exception as error:  # noqa: BLE001 - the process boundary: nothing may leave without a status
                await errors.abort(context, error)
            finally:
                if counted:
                    self._running[service] -= 1

        return grpc.unary_unary_rpc_method_handler(guarded, _lenient(handler.request_deserializer), handler.response_serializer)


def _lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """The deserializer, giving `_Malformed` where it would raise."""
    if deserialize is None:
        return None

    def parsed(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except (DecodeError, ValueError) as error:  # ValueError: text that is not UTF-8, in some of protobuf's implementations
            return _Malformed(str(error))

    return parsed
