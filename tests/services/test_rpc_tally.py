"""Our counters and histograms say what prometheus_client's say of the same values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.rpc.tally import Counters, Histograms

BOUNDS = (0.001, 0.5, 1.0, 250.0)
LABELS = st.tuples(st.sampled_from(["a", 'b\n"']), st.sampled_from(["x", ""]))
VALUES = st.lists(st.tuples(LABELS, st.sampled_from([0.0, 0.001, 0.25, 0.5, 0.75, 1.0, 250.0, 251.0, 1e9])), max_size=40)


def told(registry: CollectorRegistry) -> list[str]:
    """What a scrape shows, without when a metric was made, which only theirs tell."""
    return sorted(line for line in generate_latest(registry).decode().splitlines() if "_created" not in line)


@given(VALUES)
def test_a_histogram_is_theirs(values: list[tuple[tuple[str, str], float]]) -> None:
    """Names, bounds, cumulated buckets, sums and counts; sums of these values are exact in any order."""
    ours, theirs = Histograms("h", "Text", ("k", "l"), BOUNDS), CollectorRegistry()
    histogram = Histogram("h", "Text", ("k", "l"), buckets=BOUNDS, registry=theirs)
    for labels, value in values:
        ours.observe(labels, value)
        histogram.labels(*labels).observe(value)
    own = CollectorRegistry()
    own.register(ours)
    assert told(own) == told(theirs)


@given(VALUES)
def test_counters_are_theirs(values: list[tuple[tuple[str, str], float]]) -> None:
    """Rising ones as counters, others as gauges."""
    rising, level, theirs = Counters("c", "Text", ("k", "l")), Counters("g", "Text", ("k", "l"), rising=False), CollectorRegistry()
    counter, gauge = Counter("c", "Text", ("k", "l"), registry=theirs), Gauge("g", "Text", ("k", "l"), registry=theirs)
    for labels, value in values:
        rising.add(labels, value)
        counter.labels(*labels).inc(value)
        level.add(labels)
        gauge.labels(*labels).inc()
        level.add(labels, -value)
        gauge.labels(*labels).dec(value)
    own = CollectorRegistry()
    own.register(rising)
    own.register(level)
    assert told(own) == told(theirs)
