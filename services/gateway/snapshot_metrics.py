"""What a gateway tells Prometheus of the item snapshot it reads: how old it is, which one, and how many were no good."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.snapshot.latest import Latest


class SnapshotMetrics(Collector):
    """A view of what is followed; collected on any thread. While there is no snapshot, gauges have no sample."""

    def __init__(self, snapshot: Latest) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        now = self._snapshot.current
        values = (
            ("longtail_snapshot_age_seconds", "Since the feature store had what the item snapshot says", self._snapshot.age_s),
            ("longtail_snapshot_generation", "How many item snapshots came before it, and one", now.header.generation if now else 0),
            ("longtail_snapshot_items", "Items it has", len(now) if now else 0),
        )
        for name, text, value in values:
            gauge = GaugeMetricFamily(name, text)
            if now:
                gauge.add_metric((), value)
            yield gauge
        yield CounterMetricFamily("longtail_snapshot_refused", "Item snapshots that could not be read", value=self._snapshot.refused)
