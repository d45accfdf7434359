"""The one place where exceptions become status codes: an interceptor around every method but health's stream.

Also the door: who may not call, who calls more than it may and who does not fit in is told so, and why, before its message is even parsed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health

from ranking.errors import InvalidField, LongtailError
from services.rpc import callers, calls, errors
from services.rpc.access import Access
from services.rpc.admission import Admission
from services.rpc.quotas import Quotas

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # quoted: grpc's classes take type arguments in the stubs only
_Stream: TypeAlias = Callable[[Any, Any], AsyncIterator[Any]]
_OPEN = f"/{health.SERVICE_NAME}/"  # load balancers and probes have no credentials, and must not be told to come back later


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Turns whatever a unary method raises into the status `services.rpc.errors` says, and lets in only what there is room for."""

    def __init__(
        self, access: Access, admission: Admission, quotas: Quotas | None = None, most_bytes: Mapping[str, int] | None = None
    ) -> None:
        """Stand before a server.

        Args:
            access: says who calls, or that it may not.
            admission: lets calls in, each service's by itself, so that one whose store hangs does not shut out the others.
            quotas: of callers; None: nobody is limited.
            most_bytes: that a request may have, by `/service/method`; beyond it is not parsed. Others: what the transport takes.
        """
        self._access = access
        self._admission = admission
        self._quotas = quotas
        self._most_bytes = most_bytes or {}
        self._guarded: dict[str, Handler] = {}  # by method: they never change

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        self._admission.came()
        method = str(handler_call_details.method)  # "/service/method"
        known = self._guarded.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:  # gRPC itself refuses what it does not know
            return None
        if handler.unary_unary is not None:
            guarded = self._unary(method, handler, handler.unary_unary)
        elif handler.stream_stream is not None:
            guarded = self._stream(method, handler, cast("_Stream", handler.stream_stream))  # the stub knows blocking servers only
        elif method.startswith(_OPEN):
            guarded = handler
        else:
            raise NotImplementedError(f"{method}: no guard for this kind of stream")
        self._guarded[method] = guarded
        return guarded

    def _unary(self, name: str, handler: Handler, method: Callable[[Any, Any], Any]) -> Handler:
        service, parse, most = name.split("/")[1], handler.request_deserializer, self._most_bytes.get(name)
        everybody = name.startswith(_OPEN)

        async def guarded(raw: bytes, context: Any) -> Any:
            try:
                if not everybody:
                    caller = self._known(name, context)
                    if self._quotas is not None:
                        self._quotas.take(caller or callers.host(context.peer()))
                async with self._admission.entered(service, context.time_remaining()):
                    return await method(_parsed(raw, parse, most), context)
            except grpc.aio.AbortError:  # the method already chose its status
                raise
            except Exception as error:  # noqa: BLE001 - the process boundary: nothing may leave without a status
                await errors.abort(context, error)

        return grpc.unary_unary_rpc_method_handler(guarded, None, handler.response_serializer)

    def _stream(self, name: str, handler: Handler, method: _Stream) -> Handler:
        service = name.split("/")[1]

        async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            try:
                self._known(name, context)
                async with self._admission.entered(service, context.time_remaining()):
                    async for answer in method(requests, context):
                        yield answer
            except LongtailError as error:
                await errors.abort(context, error)

        return grpc.stream_stream_rpc_method_handler(guarded, handler.request_deserializer, handler.response_serializer)

    def _known(self, name: str, context: Any) -> str:
        caller = self._access.caller(name, context)
        if (call := calls.current.get()) is not None:
            call.caller = caller
        return caller


def _parsed(raw: bytes, parse: Callable[[bytes], Any] | None, most: int | None) -> Any:
    """The request. Not left to gRPC, since what a deserializer of its raises is UNKNOWN, and since refusing should cost nothing."""
    if most is not None and len(raw) > most:
        raise InvalidField("request", f"at most {most} bytes, got {len(raw)}")
    try:
        return raw if parse is None else parse(raw)
    except (DecodeError, ValueError) as error:  # ValueError: text that is not UTF-8, in some of protobuf's implementations
        raise InvalidField("request", f"is not a valid message: {error}") from None
