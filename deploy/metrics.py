"""What the controller, or the reconciler, tells Prometheus: whether Triton serves what it should, and how often it had to be helped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ranking.errors import Unavailable

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)


class _Brought(Collector):
    """The release Triton was brought to, as a label; no sample while there is none."""

    def __init__(self) -> None:
        self.release: str | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("longtail_triton_release_info", "What Triton was brought to", labels=["release"])
        if (release := self.release) is not None:
            family.add_metric([release], 1.0)
        yield family


class DeployMetrics:
    """Counted by the one thread of the loop, collected on any."""

    def __init__(self) -> None:
        """All counts 0, Triton not ready."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._ready = Gauge("longtail_triton_ready", "1: Triton answers and serves what it should", registry=self.registry)
        self._brought = _Brought()
        self.registry.register(self._brought)
        self._starts = Counter("longtail_triton_starts", "Triton servers started here", registry=self.registry)
        self._seconds = Histogram(
            "longtail_reconcile_seconds", "To bring Triton to the active release", buckets=_SECONDS, registry=self.registry
        )
        self._reconciles = Counter("longtail_reconciles", "Times that was done, by outcome", ["outcome"], registry=self.registry)
        self._misses = Counter("longtail_triton_probe_misses", "Probes that Triton did not answer as it should", registry=self.registry)

    def started(self) -> None:
        """A server was started."""
        self._starts.inc()

    def missed(self) -> None:
        """A probe was not answered, or wrongly."""
        self._misses.inc()

    def said(self, *, ready: bool, release: str | None) -> None:
        """What was just said of the state."""
        self._ready.set(ready)
        self._brought.release = release

    @contextmanager
    def reconciling(self) -> Iterator[None]:
        """One reconciliation, by how it ends."""
        began, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "ok"
        finally:
            self._seconds.observe(time.monotonic() - began)
            self._reconciles.labels(outcome).inc()


@contextmanager
def exposed(address: str, metrics: DeployMetrics) -> Iterator[str]:
    """Answer scrapes while the context lasts; gives the address, empty where it is "off".

    Args:
        address: `host:port`, port 0 takes a free one; or "off".
        metrics: what to expose.

    Raises:
        Unavailable: naming the address, which is in use.
    """
    if address == "off":
        yield ""
        return
    host, _, port = address.rpartition(":")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), metrics.registry)
    except (OSError, ValueError) as error:
        raise Unavailable(f"--scrape-address: cannot listen on {address}: {error}") from None
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
