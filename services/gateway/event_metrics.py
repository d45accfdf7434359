"""What a gateway tells Prometheus of the events it was sent: how many were stored, were there already, or were of forgotten users."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from services.feedback.recorder import Recorder


class EventMetrics(Collector):
    """A view of a recorder's counts; collected on any thread."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        family = CounterMetricFamily("longtail_feedback_events", "Events that calls were answered about", labels=("outcome",))
        for outcome, count in self._recorder.counts().items():
            family.add_metric((outcome.value,), count)
        yield family
