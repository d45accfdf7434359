"""The small gRPC server of `ReleaseService`: on loopback, a few calls at once, with health and reflection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from longtail.release.v1 import release_service_pb2, release_service_pb2_grpc

from deploy.operations import Releases
from deploy.service.servicer import ReleaseServicer
from ranking.errors import Unavailable

NAME = release_service_pb2.DESCRIPTOR.services_by_name["ReleaseService"].full_name
_THREADS, _CALLS = 8, 32  # at work, and waiting: whoever comes then gets RESOURCE_EXHAUSTED
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class ReleaseServer:
    """A listening server; `address` is where."""

    def __init__(self, releases: Releases, address: str, digest: Path) -> None:
        """Listen at `address`, host:port; port 0 takes a free one.

        Args:
            releases: what is served.
            address: a loopback one, since the token travels as it is: from elsewhere it is reached through a tunnel or a sidecar with TLS.
            digest: file of the token's digest.

        Raises:
            ValueError: another address.
            Unavailable: the port is taken.
        """
        host = address.rpartition(":")[0]
        if host not in _LOOPBACK:
            raise ValueError(f"--release-address: must be on {', '.join(_LOOPBACK)}, got {address!r}: its token travels as it is")
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="release"),
            maximum_concurrent_rpcs=_CALLS,
            options=[("grpc.so_reuseport", 0)],
        )
        release_service_pb2_grpc.add_ReleaseServiceServicer_to_server(ReleaseServicer(releases, digest), self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise Unavailable(f"--release-address: cannot listen on {address}: is another process using the port?") from None
        self.address = f"{host}:{port}"

    def start(self) -> None:
        """Answer calls."""
        self._server.start()
        for name in ("", NAME):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Refuse new calls and cut off those under way: what they do is taken up again by whoever comes next."""
        self._server.stop(grace=None).wait()
