"""Rate, errors and duration of calls, by method, surface and caller, and how many are under way.

Callers are told apart up to a number; those that come later are told as one, so that nobody can make a gateway's memory, or that of
Prometheus, grow by inventing names. Knows no gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from services.rpc.tally import Counters, Histograms

CALLERS = 20
"""Names of callers told apart; those that come after are told as `OTHERS`."""
OTHERS = "(other)"
NOBODY = "(none)"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CallMetrics(Collector):
    """Sums of this process; counted on the event loop, collected on any thread."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._callers = {"": NOBODY, NOBODY: NOBODY, OTHERS: OTHERS}
        labels = ("method", "surface", "caller")
        self._calls = Counters("longtail_rpc_calls", "Calls that ended, by status code", (*labels, "code"))
        self._seconds = Histograms("longtail_rpc_duration_seconds", "From a call's first byte of work to its status", labels, _SECONDS)
        self._running = Counters("longtail_rpc_in_flight", "Calls under way", ("service",), rising=False)

    def began(self, service: str) -> None:
        """One more call is under way."""
        self._running.add((service,))

    def ended(self, service: str, method: str, surface: str, caller: str, code: str, seconds: float) -> None:
        """It is no more.

        Args:
            service: full name.
            method: name within the service.
            surface: of a Rank call, else empty.
            caller: as it calls itself.
            code: of its status, e.g. OK.
            seconds: it took.
        """
        self._running.add((service,), -1.0)
        told = self._told(caller)
        self._calls.add((method, surface, told, code))
        self._seconds.observe((method, surface, told), seconds)

    def _told(self, caller: str) -> str:
        told = self._callers.get(caller)
        if told is None:
            if len(self._callers) >= CALLERS + 3:  # the three that are always there
                return OTHERS
            told = self._callers[caller] = caller
        return told

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        for one in (self._calls, self._seconds, self._running):
            yield from one.collect()
