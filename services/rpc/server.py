"""A grpc.aio server with what every process of the platform has: health, reflection, limits and a graceful stop.

Knows no service: the caller passes a function that registers its own.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.rpc.call_metrics import CallMetrics
from services.rpc.interceptor import CallInterceptor
from services.rpc.observing import ObservingInterceptor
from services.rpc.ports import PortTakenError

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a batch of 32 lists × 1,000 candidates with a few columns
MAX_ANSWER_BYTES = 24 * 1024 * 1024  # its answer, with a group for every candidate and as many explanations as a batch may ask for
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Options:
    """How a server listens.

    Attributes:
        reuse_port: several processes share one port (SO_REUSEPORT); off, a taken port is an error and not a silent split.
        max_concurrent_rpcs: calls of each registered service running at once; those beyond it get RESOURCE_EXHAUSTED. Health and
            reflection do not count.
        drain_s: seconds between NOT_SERVING and refusing new calls, for load balancers to notice.
        grace_s: seconds running calls have to finish.
    """

    reuse_port: bool = False
    max_concurrent_rpcs: int = 256
    drain_s: float = 1.0
    grace_s: float = 5.0


class Server:
    """One listening server and its health."""

    def __init__(
        self,
        address: str,
        services: Sequence[str],
        register: Callable[[grpc.aio.Server], None],
        options: Options | None = None,
        metrics: CallMetrics | None = None,
    ) -> None:
        """Bind `address`; nothing is answered before `start`.

        Args:
            address: `host:port`; port 0 takes a free one, see `address` afterwards.
            services: full names of the services `register` adds, for health, reflection and the limit of calls.
            register: adds the servicers.
            options: see `Options`.
            metrics: where calls are counted.

        Raises:
            PortTakenError: naming the address.
        """
        self._options = options or Options()
        self._services = tuple(services)
        self._server = grpc.aio.server(
            interceptors=[
                ObservingInterceptor(metrics or CallMetrics()),  # the first is the outermost: it sees what the others refuse
                CallInterceptor(self._services, self._options.max_concurrent_rpcs),
            ],
            options=[
                ("grpc.so_reuseport", int(self._options.reuse_port)),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
            ],
        )
        register(self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as refused:
            raise PortTakenError(f"cannot listen on {address}: is another process using the port?") from refused
        self.address = f"{address.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Answer calls. Health says NOT_SERVING until `set_serving(True)`."""
        await self.set_serving(serving=False)
        await self._server.start()

    async def set_serving(self, *services: str, serving: bool) -> None:
        """Health of some services, by default of all and of the server as a whole; without effect once stopping."""
        for name in services or ("", *self._services):
            await self._health.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self) -> None:
        """NOT_SERVING, wait `drain_s`, refuse new calls, let running ones finish for `grace_s`."""
        await self._health.enter_graceful_shutdown()
        log.info("draining", extra={"address": self.address, "drain_s": self._options.drain_s})
        await asyncio.sleep(self._options.drain_s)
        await self._server.stop(self._options.grace_s)
        log.info("stopped", extra={"address": self.address})


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; call inside the running loop."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked
