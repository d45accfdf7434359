"""What a gateway tells Prometheus of a trial: both arms beside each other, and how its shadows differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.trials.log import ACTIVE, TRIED, Answered, Shadowed

_ARM = ("mode", "arm", "release")
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SHARES = tuple(i / 10 for i in range(11))


class TrialMetrics(Collector):
    """Sums of this process."""

    def __init__(self, lost: Callable[[], int]) -> None:
        """Nothing is counted yet.

        Args:
            lost: lines the log of trials could not take.
        """
        self._lost = lost
        self._seconds = Histogram("longtail_trial_seconds", "Time to rank a list during a trial", _ARM, buckets=_SECONDS, registry=None)
        self._degraded = Counter("longtail_trial_degraded", "Lists during a trial that went without something", _ARM, registry=None)
        self._overlap = Histogram(
            "longtail_shadow_overlap", "Share of the top 10 that both releases have", ("release",), buckets=_SHARES, registry=None
        )
        self._difference = Counter(
            "longtail_shadow_probability_difference_sum",
            "Sum of the lists' mean |difference| of probabilities",
            ("release",),
            registry=None,
        )
        self.dropped = Counter("longtail_shadow_dropped", "Requests not ranked in the shadow because it was busy", registry=None)
        self.failed = Counter("longtail_shadow_failed", "Requests the release on trial could not rank in the shadow", registry=None)

    def answered(self, line: Answered) -> None:
        """Count one answer during a canary."""
        self._count("canary", line.arm, line.release, line.ms, degraded=line.degraded)

    def shadowed(self, line: Shadowed) -> None:
        """Count one comparison."""
        self._count("shadow", ACTIVE, line.active, line.ms_active, degraded=line.degraded_active)
        self._count("shadow", TRIED, line.tried, line.ms_tried, degraded=line.degraded_tried)
        if line.overlap == line.overlap:  # NaN of an empty list would poison the sums
            self._overlap.labels(line.tried).observe(line.overlap)
        if line.probability == line.probability:
            self._difference.labels(line.tried).inc(line.probability)

    def _count(self, mode: str, arm: str, release: str, ms: float, *, degraded: bool) -> None:
        self._seconds.labels(mode, arm, release).observe(ms / 1e3)
        self._degraded.labels(mode, arm, release).inc(degraded)

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        for one in (self._seconds, self._degraded, self._overlap, self._difference, self.dropped, self.failed):
            yield from one.collect()
        yield CounterMetricFamily("longtail_trial_log_dropped", "Lines the log of trials could not take", value=self._lost())
