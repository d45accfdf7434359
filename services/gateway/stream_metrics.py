"""What a gateway tells Prometheus of the events it took: how long the oldest waits to become features, as the feature process says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.rpc import status


class StreamMetrics(Collector):
    """Reads the feature process' status file at each scrape; while there is none, as nobody runs here, the gauge has no sample."""

    def __init__(self, told: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._told, self._clock = told, clock

    def collect(self) -> Iterator[Metric]:
        """How stale features may be because events wait: what the process said, and how long it has been silent."""
        gauge = GaugeMetricFamily("longtail_events_wait_seconds", "Since the oldest event was recorded that is not in the online store yet")
        try:
            said = json.loads(self._told.read_text())
            gauge.add_metric((), float(said["stream"].get("lag_s", 0.0)) + status.silent_s(said, self._clock()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # nobody runs, or it is of another version: no sample says so
        yield gauge
