"""What the feature process tells Prometheus: how far it follows the event log, how long pushes take, how old the snapshot is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_PUSH_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_GAUGES = {  # metric: where the follower's status has it, and what it is
    "longtail_features_lag_seconds": ("lag_s", "Since the oldest event was recorded that is not in the online store yet; 0: all are"),
    "longtail_features_events_behind": ("behind", "Events of the log that are not taken in yet, about"),
    "longtail_features_rows_waiting": ("waiting", "Rows that events made old and that are not pushed yet"),
    "longtail_features_offset": ("offset", "Offset in the log of the last event taken in"),
}


class FeatureMetrics:
    """Counted by the thread of the stream, collected on any."""

    def __init__(self) -> None:
        """All counts 0."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._applied = Counter("longtail_features_events_applied", "Events taken in", registry=self.registry)
        self._refused = Counter("longtail_features_events_refused", "Events that could not be counted", registry=self.registry)
        self._rows = Counter("longtail_features_rows_pushed", "Rows that the online store took", ["view"], registry=self.registry)
        self._push = Histogram(
            "longtail_features_push_seconds", "One push of rows of a view", ["view"], buckets=_PUSH_S, registry=self.registry
        )
        self._retries = Counter(
            "longtail_features_retries", "Times the stream failed and went on from where it was", registry=self.registry
        )

    def took_in(self, applied: int, refused: int) -> None:
        """Events of the log, once they are in the state."""
        self._applied.inc(applied)
        self._refused.inc(refused)

    def pushed(self, view: str, rows: int, seconds: float) -> None:
        """Rows the store took, and how long that was."""
        self._rows.labels(view).inc(rows)
        self._push.labels(view).observe(seconds)

    def failed(self) -> None:
        """The stream was cut short and will be tried again."""
        self._retries.inc()

    def follow(self, stream: Callable[[], Mapping[str, Any]], snapshot_age_s: Callable[[], float]) -> None:
        """Tell gauges as of each scrape.

        Args:
            stream: `Follower.status`.
            snapshot_age_s: seconds since the store had what the item snapshot says; NaN where there is none.
        """

        def value(key: str) -> float:
            return float(stream().get(key, 0))

        for name, (key, text) in _GAUGES.items():
            Gauge(name, text, registry=self.registry).set_function(partial(value, key))
        Gauge(
            "longtail_snapshot_age_seconds", "Since the feature store had what the item snapshot says", registry=self.registry
        ).set_function(snapshot_age_s)
