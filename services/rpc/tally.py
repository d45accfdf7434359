"""Counters and histograms for one thread that writes and others that read: no lock, one dictionary look-up per value.

prometheus_client's own take a lock for every value and compare it with every bound, which for the two dozen values of one answer is a tenth
of the time it takes to make it. A reader may meet a histogram between two values, never between a value's parts that matter: the count is
the sum of its buckets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Labels = tuple[str, ...]


class Counters(Collector):
    """Sums by labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], *, rising: bool = True) -> None:
        """Nothing is counted yet.

        Args:
            name: of the metric.
            text: what it is.
            labels: their names.
            rising: it never falls: a counter; else it is told as a gauge.
        """
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._family = CounterMetricFamily if rising else GaugeMetricFamily
        self._sums: dict[Labels, float] = {}

    def add(self, of: Labels, value: float = 1.0) -> None:
        """Add to one sum."""
        sums = self._sums
        sums[of] = sums.get(of, 0.0) + value

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        family = self._family(self._name, self._text, labels=self._labels)
        for of, value in list(self._sums.items()):
            family.add_metric(of, value)
        yield family


class Histograms(Collector):
    """Distributions by labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        """Nothing is observed yet.

        Args:
            name: of the metric.
            text: what it is.
            labels: their names.
            bounds: upper ones of the buckets, rising; a last bucket takes what is above.
        """
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._bounds = tuple(bounds)
        self._told = (*(str(float(bound)) for bound in bounds), "+Inf")
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, of: Labels, value: float) -> None:
        """One value; a bucket holds its upper bound."""
        counts = self._counts.get(of)
        if counts is None:
            self._sums[of] = 0.0  # first: whoever finds the counts finds the sum
            counts = self._counts[of] = [0] * len(self._told)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[of] += value

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for of, counts in list(self._counts.items()):
            family.add_metric(of, list(zip(self._told, accumulate(counts), strict=True)), self._sums[of])
        yield family
