"""Which calls a client does not even send while the server refuses some: the rule, without gRPC and without a clock of its own.

A refusal costs a server as much as an empty call. One that is asked for several times what it can do spends its time on refusing, unless
those who ask hold back. So a client counts what was let in and refuses by itself, with probability

    max(0, (requests - k * accepts) / (requests + 1))        (Beyer et al., "Site Reliability Engineering", O'Reilly 2016, chapter 21)

over a window of some seconds: it sends about k calls for every one that is let in. The server's refusals are the only signal; nothing has
to be told how much the server can do, and clients that know nothing of each other hold back together.

Counted are calls whose end is known, and those refused here. Calls under way would look like refused ones wherever answers take long; but
where a flood has come and most ends are not known yet they are the news. So, while a server refuses at all, those are counted that answers
do not explain which take a quarter of a window, and those whose deadline passed.

Two rules let a client come back that k close to 1 alone would keep away for minutes (what it sends grows by the k - 1 th part of a
window's accepts): however much is refused, a call is sent when none was for as long as the server last asked to wait; and once `calm` calls
in a row were let in there is no overload any more, and the window begins anew. While there is one, of the calls sent a share (k - 1) / k is
refused, so as many in a row happen by chance after some 200,000 calls with the defaults, and then cost the server `least` refusals.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ranking.errors import InvalidField


@dataclass(frozen=True, slots=True)
class Throttling:
    """When a client refuses calls by itself.

    Attributes:
        k: calls sent for every one that is let in, while some are refused. 2, which Google's book uses, lets a server refuse as many as it
            answers; 1.25 costs it one refusal for four answers, and still tells within a few calls that there is room again.
        window_s: seconds of calls that are looked at.
        least: calls in the window below which none is refused here: one refusal among three calls says nothing.
        calm: calls let in one after another that end it.
        probe_s: seconds without any call sent after which one is, whatever the window says, or longer if the server asked for longer.

    Raises:
        InvalidField: one of them makes no sense.
    """

    k: float = 1.25
    window_s: float = 10.0
    least: int = 20
    calm: int = 50
    probe_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("k", "window_s", "probe_s", "least", "calm"):
            given = getattr(self, name)
            whole = name in ("least", "calm")
            if isinstance(given, bool) or not isinstance(given, int if whole else int | float) or not math.isfinite(given):
                raise InvalidField(f"throttling.{name}", f"must be a {'whole ' if whole else ''}number, got {given!r}")
            if given < 1 if whole or name == "k" else given <= 0:
                raise InvalidField(
                    f"throttling.{name}", f"must be {'at least 1' if whole or name == 'k' else 'greater than 0'}, got {given!r}"
                )


DEFAULT = Throttling()
_SLICES = 10  # of a window: what is forgotten at a time
_LONG = 0.25  # of a window: answers that take longer look like calls that are not answered


@dataclass(slots=True)
class _Slice:
    number: int
    requests: int = 0
    accepts: int = 0
    refusals: int = 0  # the server's
    late: int = 0  # whose deadline passed


class Throttle:
    """What one client knows of one service of one target. For any number of threads."""

    def __init__(
        self, rules: Throttling = DEFAULT, *, clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random
    ) -> None:
        """Nothing is known yet.

        Args:
            rules: when calls are refused.
            clock: monotonic seconds.
            draw: from [0, 1), evenly.
        """
        self.rules = rules
        self._refused_here = 0
        self._clock, self._draw = clock, draw
        self._lock = threading.Lock()
        self._slices: deque[_Slice] = deque()
        self._requests = self._accepts = self._refusals = self._late = 0  # of the slices
        self._under_way = 0
        self._streak = 0  # calls let in since the last one that was not
        self._sent = -math.inf  # when a call was sent last
        self._wait_s = 0.0  # as the server asked last

    @property
    def refused_here(self) -> int:
        """Calls that were not sent, ever."""
        return self._refused_here

    def ask(self) -> float | None:
        """One more call.

        Returns:
            None: send it, and say how it ended: `accepted`, `refused`, `late` or `untold`. Otherwise it is refused here: seconds
            after which to come back.
        """
        with self._lock:
            now = self._clock()
            slice_ = self._now(now)
            requests = self._requests
            if self._refusals:
                requests += self._late + max(0, self._under_way - self.rules.least - int(_LONG * self._accepts))
            if requests >= self.rules.least and now - self._sent < (wait_s := self._probe_s()):
                refuse = (requests - self.rules.k * self._accepts) / (requests + 1)
                if refuse > 0.0 and self._draw() < refuse:
                    self._refused_here += 1
                    slice_.requests += 1
                    self._requests += 1
                    return wait_s
            self._sent = now
            self._under_way += 1
            return None

    def accepted(self) -> None:
        """A call that was sent was let in, whatever came of it then."""
        with self._lock:
            slice_ = self._now(self._clock())
            self._under_way -= 1
            self._streak += 1
            if self._streak >= self.rules.calm and self._requests > self.rules.k * self._accepts:
                self._slices.clear()
                self._requests = self._accepts = self._refusals = self._late = 0
                slice_ = self._now(self._clock())
            slice_.requests += 1
            slice_.accepts += 1
            self._requests += 1
            self._accepts += 1

    def refused(self, wait_s: float) -> None:
        """A call that was sent was refused because the server has too much to do.

        Args:
            wait_s: seconds after which the server said to come back.
        """
        with self._lock:
            slice_ = self._now(self._clock())
            self._under_way -= 1
            slice_.requests += 1
            slice_.refusals += 1
            self._requests += 1
            self._refusals += 1
            self._streak, self._wait_s = 0, wait_s

    def late(self) -> None:
        """The deadline of a call that was sent has passed: a sign of overload if others are refused, else it may be the caller's hurry."""
        with self._lock:
            self._under_way -= 1
            self._now(self._clock()).late += 1
            self._late += 1

    def untold(self) -> None:
        """A call that was sent has ended, and that says nothing of the server's load."""
        with self._lock:
            self._under_way -= 1

    def _probe_s(self) -> float:
        """No longer than a window: then nothing is known any more."""
        return min(max(self.rules.probe_s, self._wait_s), self.rules.window_s)

    def _now(self, now: float) -> _Slice:
        """The slice of this moment, with those forgotten that are older than the window."""
        number = math.floor(now / self.rules.window_s * _SLICES)
        while self._slices and self._slices[0].number <= number - _SLICES:
            old = self._slices.popleft()
            self._requests -= old.requests
            self._accepts -= old.accepts
            self._refusals -= old.refusals
            self._late -= old.late
        if not self._slices or self._slices[-1].number < number:
            self._slices.append(_Slice(number))
        return self._slices[-1]
