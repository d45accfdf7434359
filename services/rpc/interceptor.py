"""The one place where exceptions become status codes: an interceptor around every unary method of our services.

Also the door: who calls more than it may is told so, and who does not fit in is, before its message is even parsed. Health and reflection
pass uncounted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from ranking.errors import InvalidField
from services.rpc import callers, errors
from services.rpc.admission import Admission
from services.rpc.quotas import Quotas

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # quoted: grpc's classes take type arguments in the stubs only


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Turns whatever a unary method raises into the status `services.rpc.errors` says, and lets in only what there is room for."""

    def __init__(self, services: tuple[str, ...], admission: Admission, quotas: Quotas | None = None) -> None:
        """Stand before some services.

        Args:
            services: full names of those whose calls count for `quotas`.
            admission: lets calls in, each service's by itself, so that one whose store hangs does not shut out the others.
            quotas: of callers; None: nobody is limited.
        """
        self._services = frozenset(services)
        self._admission = admission
        self._quotas = quotas
        self._guarded: dict[str, Handler] = {}  # by method: they never change

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method = str(handler_call_details.method)  # "/service/method"
        known = self._guarded.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:  # unknown method, or a stream (health's Watch, reflection)
            return handler
        guarded = self._guarded[method] = self._guard(method.split("/")[1], handler, handler.unary_unary)
        return guarded

    def _guard(self, service: str, handler: Handler, method: Callable[[Any, Any], Any]) -> Handler:
        parse = handler.request_deserializer
        limited = self._quotas if service in self._services else None

        async def guarded(raw: bytes, context: Any) -> Any:
            try:
                if limited is not None:
                    limited.take(callers.named(context))
                async with self._admission.entered(service, context.time_remaining()):
                    return await method(_parsed(raw, parse), context)
            except grpc.aio.AbortError:  # the method already chose its status
                raise
            except Exception as error:  # noqa: BLE001 - the process boundary: nothing may leave without a status
                await errors.abort(context, error)

        return grpc.unary_unary_rpc_method_handler(guarded, None, handler.response_serializer)


def _parsed(raw: bytes, parse: Callable[[bytes], Any] | None) -> Any:
    """The request. Not left to gRPC, since what a deserializer of its raises is UNKNOWN, and since refusing should cost nothing."""
    try:
        return raw if parse is None else parse(raw)
    except (DecodeError, ValueError) as error:  # ValueError: text that is not UTF-8, in some of protobuf's implementations
        raise InvalidField("request", f"is not a valid message: {error}") from None
