"""Hands out trials so that a search is the same whoever finishes first, whatever is killed, and however often it is taken up again.

A searcher that learns is asked for trial k when it has been told of exactly the trials 0 … k - lag, in order of their numbers: never of a
later one that happened to end early. So what it proposes follows from the seed, the lag and the trials' own results. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.search.samplers import Sampler
from training.search.space import nested

Metrics = Mapping[str, float]


class Order:
    """The trials of a search, handed out once each.

    Args:
        sampler: proposes.
        count: trials in all.
        lag: how many trials may be under way at once, where the searcher learns; more wait for the oldest of them.
        finished: number -> metrics, None where it failed: trials that ended before this order was made. They are proposed again, so that
            the searcher is where it was, and not handed out.
    """

    def __init__(self, sampler: Sampler, count: int, lag: int, finished: Mapping[int, Metrics | None]) -> None:
        if lag < 1:
            raise ValueError(f"at_once: must be at least 1, got {lag}")
        self._sampler, self.count = sampler, count
        self._lag = lag if sampler.lags else count
        self._ended: dict[int, Metrics | None] = dict(finished)
        self._before = frozenset(finished)
        self._asked = self._told = 0

    @property
    def exhausted(self) -> bool:
        """All trials have been handed out, or had ended before."""
        return self._asked >= self.count

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """Number and configuration of a trial to start; None while there is none, be it for now or for good."""
        while not self.exhausted:
            if not self._tell_until(self._asked - self._lag):
                return None
            number, config = self._asked, nested(self._sampler.ask(self._asked))
            self._asked += 1
            if number not in self._before:
                return number, config
        return None

    def done(self, number: int, metrics: Metrics | None) -> None:
        """Trial `number` ended; None: it failed."""
        self._ended[number] = metrics

    def _tell_until(self, last: int) -> bool:
        while self._told <= last:
            if self._told not in self._ended:
                return False
            self._sampler.tell(self._told, self._ended[self._told])
            self._told += 1
        return True
