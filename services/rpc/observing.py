"""The outermost interceptor: every unary call gets its request id, its span and its place in the metrics, however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from services.rpc import calls, tracing
from services.rpc.call_metrics import CallMetrics

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # quoted: grpc's classes take type arguments in the stubs only


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Knows of a call what its metadata say and how it ended; what it asks and is answered is the servicer's."""

    def __init__(self, metrics: CallMetrics) -> None:
        """Begin with no method known.

        Args:
            metrics: told of every call.
        """
        self._metrics = metrics
        self._observed: dict[str, Handler] = {}  # by method: they never change

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        path = str(handler_call_details.method)
        known = self._observed.get(path)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:  # unknown method, or a stream (health's Watch, reflection)
            return handler
        observed = self._observed[path] = self._observe(path, handler)
        return observed

    def _observe(self, path: str, handler: Handler) -> Handler:
        inner, metrics = handler.unary_unary, self._metrics
        assert inner is not None
        _, service, method = path.split("/")

        async def observed(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            metrics.began(service)
            call = calls.received({k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)})
            context.set_trailing_metadata(((calls.REQUEST_ID, call.request_id),))
            token, code = calls.current.set(call), "UNKNOWN"
            try:
                with tracing.serving(path, call):
                    try:
                        answer = await inner(request, context)
                        code = _code(context)
                    except asyncio.CancelledError:  # the caller left, or its deadline passed
                        left_s = context.time_remaining()
                        code = "CANCELLED" if left_s is None or left_s > 0.0 else "DEADLINE_EXCEEDED"
                        raise
                    except grpc.aio.AbortError:
                        code = _code(context)
                        raise
                    finally:
                        tracing.ended(code)
                if not call.given:  # the message may have named one
                    context.set_trailing_metadata(((calls.REQUEST_ID, call.request_id),))
                return answer
            finally:
                calls.current.reset(token)
                metrics.ended(service, method, call.surface, call.caller, code, time.perf_counter() - began)

        return grpc.unary_unary_rpc_method_handler(observed, handler.request_deserializer, handler.response_serializer)


def _code(context: Any) -> str:
    """The status that was chosen; gRPC has it as a number until somebody chooses one."""
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else "OK" if not code else "UNKNOWN"
