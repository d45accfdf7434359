"""How long a model server will need for what it was asked, judged by when it answered before: the rule, without tasks and models.

A model takes as many pairs a second as it can, however many wait. What is sent beyond that is answered when its caller has left, and keeps
what comes after from being in time as well. So who sends asks first whether the answer would be in time.
"""

from __future__ import annotations

from collections.abc import Callable

_MEMORY = 0.8  # of what was measured stays when another answer comes: a minute's stall is forgotten within two dozen
_SURE = 2.0  # expected waits have to fit: texts differ in length, processors are shared, and a short queue costs a busy model nothing


class Pace:
    """Pairs under way and the time one takes. Lives on the event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nothing is known.

        Args:
            clock: monotonic seconds.
        """
        self._clock = clock
        self._under_way = 0
        self._busy_since = 0.0  # or since the last answer
        self._pairs = self._seconds = 0.0  # of answers, the older the less

    @property
    def under_way(self) -> int:
        """Pairs that are not answered."""
        return self._under_way

    def began(self, pairs: int) -> None:
        """So many were sent."""
        if not self._under_way:
            self._busy_since = self._clock()
        self._under_way += pairs

    def ended(self, pairs: int, *, answered: bool) -> None:
        """So many of them were answered, or will not be."""
        now = self._clock()
        if answered:
            self._pairs = _MEMORY * self._pairs + pairs
            self._seconds = _MEMORY * self._seconds + now - self._busy_since
        self._busy_since = now
        self._under_way -= pairs

    def in_time(self, pairs: int, left_s: float) -> bool:
        """Whether so many more would be answered within so many seconds; yes where nothing is under way: there is nothing to wait for."""
        if not self._under_way or not self._pairs:
            return True
        return _SURE * (self._under_way + pairs) * self._seconds / self._pairs <= left_s
