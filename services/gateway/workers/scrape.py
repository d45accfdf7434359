"""One page for Prometheus with the metrics of all workers: each worker's own page, read when the parent's is, with a label `worker`.

Not prometheus_client's multiprocess mode: that shares the values of its own counters through files, and what the gateway tells is mostly
collected from live objects (ledger, snapshot, active release), which have no such values. Nothing is summed here: sums over workers are
the reader's to take (`sum without (worker) (…)`), and gauges of what all workers share must not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_WAIT_S = 2.0  # for one worker, so that one that hangs is told as missing well within Prometheus' own ten seconds
LABEL = "worker"


class WorkerMetrics(Collector):
    """Collected on any thread."""

    def __init__(self, pages: Callable[[], Mapping[int, str]], restarts: Callable[[], Mapping[int, int]]) -> None:
        """Nothing is read before a scrape.

        Args:
            pages: worker -> `host:port` of its page, empty while it has none.
            restarts: worker -> how often it was started again.
        """
        self._pages, self._restarts = pages, restarts

    def collect(self) -> Iterator[Metric]:
        """All workers' metrics, those of one family together."""
        pages = self._pages()
        with ThreadPoolExecutor(len(pages) or 1, "scrape") as threads:
            texts = dict(zip(pages, threads.map(_page, pages.values()), strict=True))
        up = GaugeMetricFamily("longtail_worker_up", "Whether the worker answers scrapes", labels=[LABEL])
        merged: dict[str, Metric] = {}
        for worker, text in texts.items():
            up.add_metric([str(worker)], float(text is not None))
            for family in text_string_to_metric_families(text or ""):
                known = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples.extend(s._replace(labels={LABEL: str(worker), **s.labels}) for s in family.samples)
        yield up
        restarts = CounterMetricFamily("longtail_worker_restarts", "Times the worker died and was started again", labels=[LABEL])
        for worker, times in self._restarts().items():
            restarts.add_metric([str(worker)], times)
        yield restarts
        yield from merged.values()


def _page(address: str) -> str | None:
    """A worker's page; None where it gives none."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=_WAIT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
