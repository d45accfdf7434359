"""grpc.health.v1 for grpc.aio: as the package's own servicer, but with a bound on watchers, none of whom the leaving of another makes deaf.

The package's servicer keeps one condition per service and drops it when any watcher leaves, so that those who stay never hear of a drain;
and its streams hold up `Server.stop` until the grace is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranking.errors import Overloaded
from services.rpc import errors

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_RETRY_S = 5.0


class Health(health_pb2_grpc.HealthServicer):
    """Health of services by full name; the empty name is the server as a whole."""

    def __init__(self, services: Sequence[str], watchers: int) -> None:
        """All NOT_SERVING.

        Args:
            services: full names.
            watchers: streams open at once; further ones get RESOURCE_EXHAUSTED.
        """
        self._status: dict[str, int] = dict.fromkeys(("", *services), NOT_SERVING)
        self._watchers = watchers
        self._watching = 0
        self._changed = asyncio.Condition()
        self._draining = self._closed = False

    async def set(self, service: str, *, serving: bool) -> None:
        """Say so, and tell who watches; without effect once draining."""
        if self._draining:
            return
        async with self._changed:
            self._status[service] = SERVING if serving else NOT_SERVING
            self._changed.notify_all()

    async def drain(self) -> None:
        """NOT_SERVING for good."""
        async with self._changed:
            self._draining = True
            self._status = dict.fromkeys(self._status, NOT_SERVING)
            self._changed.notify_all()

    async def close(self) -> None:
        """End the streams, so that nobody waits for them."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def Check(  # noqa: N802 - the method's name on the wire
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The status now; NOT_FOUND for a service nobody registered."""
        status = self._status.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service {request.service[:200]!r} is not served here")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802
        """The status now and whenever it changes."""
        if self._watching >= self._watchers:
            await errors.abort(context, Overloaded(f"{self._watching} streams watch this server's health already, its limit", _RETRY_S))
        self._watching += 1
        told = None
        try:
            while not self._closed:
                now = self._status.get(request.service, UNKNOWN)
                if now != told:
                    await context.write(health_pb2.HealthCheckResponse(status=now))
                    told = now
                async with self._changed:
                    while not self._closed and self._status.get(request.service, UNKNOWN) == told:
                        await self._changed.wait()
        finally:
            self._watching -= 1
