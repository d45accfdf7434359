"""How many calls run at once, how many wait, and who is refused at once: the rules, without threads, tasks or a clock of their own.

A gateway process has one thing that runs out: the time of its one event loop. So what decides how many calls may run is how long one that
was let in waits for the loop before its work begins, and not how long calls take: those wait for models and stores too, which degrade an
answer and must not shut callers out. DAGOR goes by queueing time instead of response time for the same reason (Zhou et al., "Overload
Control for Scaling WeChat Microservices", SoCC 2018, section 4.1). The limit moves like Gradient2Limit of Netflix' concurrency-limits: down
by the ratio of what a wait may be to what it is, at most by half, and up only while it is in use. Waits count as long when all of a window
are, as in CoDel (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012): a burst is no overload.

Who cannot run waits in a short queue, in the order of arrival, unless the wait would be too long for it: then it is refused before anything
was spent on it, since work for callers who have left is what makes an overloaded server useless.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ranking.errors import Overloaded

_DOWN = 0.5  # of the limit is left at least after a window of long waits
_UP = 0.05  # of the limit is added after any other in which the limit was in use; at least one call
_IN_USE = 0.5  # of the limit has to run for that: a limit nobody reaches says nothing
_MEMORY = 0.05  # weight of the newest call in the mean duration
_SHARE = 0.5  # of a caller's time that waiting may take; the rest is for the answer
_LEAST_RETRY_S = 0.1
_MOST_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many calls of one kind are taken.

    Attributes:
        most: calls running at once.
        least: what the adaptive limit never goes below: few enough to end an overload, enough to keep the loop busy.
        queue: calls waiting; 0: none waits.
        wait_s: longest one waits.
        target_s: a call that waits longer for the event loop waits long; None: the limit does not adapt.
        window: ticks after which the limit moves.
    """

    most: int = 256
    least: int = 8
    queue: int = 128
    wait_s: float = 0.1
    target_s: float | None = 0.01
    window: int = 4


@dataclass(slots=True)
class AdaptiveLimit:
    """Calls that may run at once. Starts at the most: it comes down in seconds, and a quiet gateway should not refuse its first burst."""

    bounds: Bounds
    value: float = field(init=False)
    _ticks: int = field(default=0, init=False)
    _shortest_s: float = field(default=float("inf"), init=False)  # of the window's waits
    _peak: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.value = float(self.bounds.most)

    def running(self, calls: int) -> None:
        """So many run now."""
        self._peak = max(self._peak, calls)

    def waited(self, wait_s: float) -> None:
        """A call that was let in waited so long for the loop."""
        self._shortest_s = min(self._shortest_s, wait_s)

    def tick(self) -> None:
        """Time has passed; moves the limit once a window is full."""
        bounds = self.bounds
        if bounds.target_s is None:
            return
        self._ticks += 1
        if self._ticks < bounds.window:
            return
        if bounds.target_s < self._shortest_s < float("inf"):
            self.value = max(float(min(bounds.least, bounds.most)), self.value * max(bounds.target_s / self._shortest_s, _DOWN))
        elif self._peak >= _IN_USE * self.value:
            self.value = min(float(bounds.most), self.value + max(1.0, _UP * self.value))
        self._ticks, self._shortest_s, self._peak = 0, float("inf"), 0


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One call's place in the queue.

    Attributes:
        until: monotonic seconds by which it has to run.
        wake: called once, with None when the call may run, else with why not; gives whether anybody was there to hear it.
    """

    until: float
    wake: Callable[[Overloaded | None], bool]


class Gate:
    """Calls of one kind: how many run, and who waits."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        """Nobody is in.

        Args:
            bounds: how many are taken.
            clock: monotonic seconds.
        """
        self.bounds = bounds
        self.limit = AdaptiveLimit(bounds)
        self.running = 0
        self.refused = 0
        self._clock = clock
        self._waiting: deque[Place] = deque()
        self._mean_s = 0.0  # of calls, from entering to leaving

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._waiting)

    def ask(self, left_s: float, wake: Callable[[Overloaded | None], bool]) -> Place | None:
        """Enter, or wait.

        Args:
            left_s: how long the caller still waits for its answer.
            wake: called later if the call has to wait, see `Place`.

        Returns:
            None: the call runs, and must `leave`. Otherwise its place in the queue; woken with None it runs and must `leave`.

        Raises:
            Overloaded: neither is possible.
        """
        if not self._waiting and self.running < int(self.limit.value):
            self._enter()
            return None
        if len(self._waiting) >= self.bounds.queue:
            limit = int(self.limit.value)
            queue = f" and as many as {self.bounds.queue} wait" if self.bounds.queue else ""
            raise self._refusal(f"this process already answers {self.running} calls, its limit is {limit}{queue}")
        allowed_s = max(min(self.bounds.wait_s, _SHARE * left_s), 0.0)
        expected_s = self._expected_s()
        if expected_s >= allowed_s:
            why = f"this call would wait {expected_s:.3g} s, more than the {allowed_s:.3g} s it can"
            raise self._refusal(f"this process already answers {self.running} calls: {why}")
        place = Place(self._clock() + allowed_s, wake)
        self._waiting.append(place)
        return place

    def withdraw(self, place: Place) -> None:
        """Take a call out of the queue whose caller left; without effect once it was woken."""
        with suppress(ValueError):
            self._waiting.remove(place)

    def leave(self, took_s: float) -> None:
        """A call that ran has ended; those whose turn it is run."""
        self.running -= 1
        self._mean_s += _MEMORY * (took_s - self._mean_s) if self._mean_s else took_s
        self._admit()

    def waited(self, wait_s: float) -> None:
        """A call that was let in waited so long for the event loop."""
        self.limit.waited(wait_s)

    def tick(self) -> None:
        """Time has passed: who waits too long is refused, and the limit may move."""
        self.limit.tick()
        self._admit()

    def _admit(self) -> None:
        now = self._clock()
        while self._waiting and (self._waiting[0].until <= now or self.running < int(self.limit.value)):
            place = self._waiting.popleft()
            if place.until <= now:
                place.wake(self._refusal(f"this process already answers {self.running} calls, and too few ended in time"))
            elif place.wake(None):
                self._enter()

    def _enter(self) -> None:
        self.running += 1
        self.limit.running(self.running)

    def _expected_s(self) -> float:
        """How long the next one in the queue waits (Little's law)."""
        return (len(self._waiting) + 1) * self._mean_s / max(self.limit.value, 1.0)

    def _refusal(self, why: str) -> Overloaded:
        self.refused += 1
        retry_s = min(max(self._expected_s(), _LEAST_RETRY_S), _MOST_RETRY_S)
        return Overloaded(f"{why}; retry in {retry_s:.2g} s or elsewhere", retry_s)
