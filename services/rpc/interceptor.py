"""The one place where exceptions become status codes: an interceptor around every unary method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from services.rpc import errors

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # quoted: grpc's classes take type arguments in the stubs only


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns whatever a unary method raises into the status `services.rpc.errors` says."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:  # unknown method, or a stream (health's Watch, reflection)
            return handler
        method = handler.unary_unary

        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await method(request, context)
            except grpc.aio.AbortError:  # the method already chose its status
                raise
            except Exception as error:  # noqa: BLE001 - the process boundary: nothing may leave without a status
                await errors.abort(context, error)

        return grpc.unary_unary_rpc_method_handler(guarded, handler.request_deserializer, handler.response_serializer)
