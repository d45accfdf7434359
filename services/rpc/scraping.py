"""The address Prometheus scrapes: a process' metrics over HTTP, on a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from services.rpc.ports import PortTakenError

_POLL_S = 0.1  # how soon a stop is noticed


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """A scrape every few seconds is no event."""


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


@contextmanager
def scraped(address: str, registry: CollectorRegistry) -> Iterator[str]:
    """Answer scrapes while the context lasts; gives the address, `host:port`. Its end takes a moment.

    Args:
        address: `host:port`; port 0 takes a free one.
        registry: what to expose.

    Raises:
        PortTakenError: naming the address.
    """
    host, _, port = address.rpartition(":")
    kind, app = (_Server6 if host.startswith("[") else ThreadingWSGIServer), make_wsgi_app(registry)
    try:
        server = make_server(host.strip("[]"), int(port), app, kind, _Quiet)
    except OSError as error:
        raise PortTakenError(f"cannot listen on {address} for metrics: {error.strerror}") from None
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
