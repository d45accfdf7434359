"""The address Prometheus scrapes: a process' metrics over HTTP or HTTPS, on a thread of its own."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from services.rpc.ports import PortTakenError
from services.rpc.tls import Files, Renewed

log = logging.getLogger(__name__)
_POLL_S = 0.1  # how soon a stop is noticed
AT_ONCE = 16  # connections, each with a thread: a scraper or two, and people
_PATIENCE_S = 10.0  # for a handshake and a request: whoever says nothing must not keep a thread


class _Quiet(WSGIRequestHandler):
    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A scrape every few seconds is no event."""


class _Server(ThreadingWSGIServer):
    guard: Renewed[ssl.SSLContext] | None = None

    def __init__(self, *where: Any) -> None:
        self._places = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(*where)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            log.warning("scrape_refused", extra={"detail": f"{AT_ONCE} connections are open already"})
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = super().get_request()
        if self.guard is not None:  # the handshake is left to the connection's own thread: one that hangs holds up nobody
            self.guard.changed()
            connection = self.guard.value.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # of a client that left, is late or has no certificate
            log.error("scrape_failed", exc_info=error)


class _Server6(_Server):
    address_family = socket.AF_INET6


@contextmanager
def scraped(address: str, registry: CollectorRegistry, files: Files | None = None) -> Iterator[str]:
    """Answer scrapes while the context lasts; gives the address, `host:port`. Its end takes a moment.

    Args:
        address: `host:port`; port 0 takes a free one.
        registry: what to expose.
        files: certificate to listen with, and the authority of the scrapers' ones; None: plain HTTP.

    Raises:
        PortTakenError: naming the address.
        InvalidSettingError: naming the file of the certificate that is wrong.
    """
    guard = None if files is None else Renewed(files, files.context)
    host, _, port = address.rpartition(":")
    kind, app = (_Server6 if host.startswith("[") else _Server), make_wsgi_app(registry)
    try:
        server = make_server(host.strip("[]"), int(port), app, kind, _Quiet)
    except OSError as error:
        raise PortTakenError(f"cannot listen on {address} for metrics: {error.strerror}") from None
    server.guard = guard
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
