"""A grpc.aio server with what every process of the platform has: health, reflection, limits and a graceful stop.

Knows no service: the caller passes a function that registers its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.rpc import tls
from services.rpc.access import Access
from services.rpc.admission import Admission, Load
from services.rpc.call_metrics import CallMetrics
from services.rpc.health import Health
from services.rpc.interceptor import CallInterceptor
from services.rpc.observing import ObservingInterceptor
from services.rpc.overload import Bounds
from services.rpc.ports import PortTakenError
from services.rpc.quotas import Quotas
from services.rpc.tls import Files
from services.rpc.tokens import Scope, Tokens

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # a batch of 32 lists × 1,000 candidates with a few columns
MAX_STREAMS = (
    1024  # calls of one connection under way, or as many as run and wait in all: a client that opens calls and says nothing holds memory
)
MAX_ANSWER_BYTES = 24 * 1024 * 1024  # its answer, with a group for every candidate and as many explanations as a batch may ask for


@dataclass(frozen=True, slots=True)
class Options:
    """How a server listens.

    Attributes:
        reuse_port: several processes share one port (SO_REUSEPORT); off, a taken port is an error and not a silent split.
        bounds: calls of each registered service running and waiting at once; those beyond get RESOURCE_EXHAUSTED. Health and reflection
            do not count.
        adaptive: full names of the services whose limit follows the event loop, and whose calls may wait; the others' is `bounds.most`.
        default_s: how long a call without a deadline is taken to wait.
        quotas: of callers; None: nobody is limited.
        tokens: that callers show; None: none is asked for.
        scopes: what a token needs, see `Access`.
        most_bytes: that a request may have, by `/service/method`; others: what the transport takes.
        tls: certificate and key; None: plain text.
        watchers: streams open at once that watch health.
        drain_s: seconds between NOT_SERVING and refusing new calls, for load balancers to notice.
        grace_s: seconds running calls have to finish.
    """

    reuse_port: bool = False
    bounds: Bounds = field(default_factory=Bounds)
    adaptive: tuple[str, ...] = ()
    default_s: float = 3.0
    quotas: Quotas | None = None
    tokens: Tokens | None = None
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    most_bytes: Mapping[str, int] = field(default_factory=dict)
    tls: Files | None = None
    watchers: int = 1000
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
            InvalidSettingError: naming the file of the certificate that is wrong.
        """
        self._options = options or Options()
        self._services = tuple(services)
        own = self._options
        fixed = replace(own.bounds, queue=0, target_s=None)
        bounds = {name: own.bounds if name in own.adaptive else fixed for name in (*services, reflection.SERVICE_NAME)}
        self._admission = Admission(bounds, own.default_s)
        self._server = grpc.aio.server(
            interceptors=[
                ObservingInterceptor(metrics or CallMetrics()),  # the first is the outermost: it sees what the others refuse
                CallInterceptor(Access(own.tokens, own.scopes), self._admission, own.quotas, own.most_bytes),
            ],
            options=[
                ("grpc.so_reuseport", int(own.reuse_port)),
                ("grpc.max_concurrent_streams", max(MAX_STREAMS, own.bounds.most + own.bounds.queue)),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
            ],
        )
        register(self._server)
        self._health = Health(self._services, own.watchers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            if own.tls is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, tls.credentials(own.tls))
        except RuntimeError as refused:
            raise PortTakenError(f"cannot listen on {address}: is another process using the port?") from refused
        self.address = f"{address.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Answer calls. Health says NOT_SERVING until `set_serving(True)`."""
        await self._server.start()
        self._admission.start()

    def load(self) -> dict[str, Load]:
        """How full each service is, by full name."""
        return self._admission.load()

    async def set_serving(self, *services: str, serving: bool) -> None:
        """Health of some services, by default of all and of the server as a whole; without effect once stopping."""
        for name in services or ("", *self._services):
            await self._health.set(name, serving=serving)

    async def stop(self) -> None:
        """NOT_SERVING, wait `drain_s`, refuse new calls, let running ones finish for `grace_s`."""
        await self._health.drain()
        log.info("draining", extra={"address": self.address, "drain_s": self._options.drain_s})
        await asyncio.sleep(self._options.drain_s)
        await self._health.close()
        await self._server.stop(self._options.grace_s)
        await self._admission.stop()
        log.info("stopped", extra={"address": self.address})
