"""The client's throttle under a virtual clock: when it holds back, how much, what that is worth, and how it comes back."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.errors import InvalidField
from services.client.throttle import DEFAULT, Throttle, Throttling

CAPACITY = 100.0  # calls per second
LIST_S, REFUSAL_S = 0.01, 0.002  # of the server's time; 1 / LIST_S is the capacity


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Server:
    """One thread that answers in LIST_S, refuses in REFUSAL_S, and refuses whom it would let wait longer than `wait_s`."""

    clock: Clock
    wait_s: float = 0.1
    free: float = 0.0  # when it has done what it was asked for
    answered: int = 0
    refused: int = 0

    def call(self, throttle: Throttle | None) -> None:
        self.free = max(self.free, self.clock.now)
        if self.free - self.clock.now > self.wait_s:
            self.free += REFUSAL_S
            self.refused += 1
            if throttle is not None:
                throttle.refused(0.1)
        else:
            self.free += LIST_S
            self.answered += 1
            if throttle is not None:
                throttle.accepted()


@dataclass
class Shop:
    """Calls at an even rate, each of one of several clients in turn."""

    throttles: list[Throttle | None]
    clock: Clock
    server: Server
    sent: list[float] = field(default_factory=list)

    def run(self, rate: float, seconds: float) -> float:
        """Answers per second."""
        before, end = self.server.answered, self.clock.now + seconds
        i = 0
        while self.clock.now < end:
            throttle = self.throttles[i % len(self.throttles)]
            if throttle is None or throttle.ask() is None:
                self.sent.append(self.clock.now)
                self.server.call(throttle)
            self.clock.now += 1.0 / rate
            i += 1
        return (self.server.answered - before) / seconds


def shop(rules: Throttling | None, clients: int = 1) -> Shop:
    clock = Clock()
    made = [None if rules is None else Throttle(rules, clock=clock, draw=random.Random(i).random) for i in range(clients)]
    return Shop(list(made), clock, Server(clock))


@pytest.mark.parametrize("clients", [1, 5])
def test_holding_back_keeps_an_overloaded_server_useful(clients: int) -> None:
    """At five times the capacity a server that is asked for everything refuses so many that it has little time left; with the throttle it
    refuses k - 1 for each answer: 1 / (1 + (k - 1) * REFUSAL_S / LIST_S) of its time is for answers."""
    bare = shop(None, clients)
    assert bare.run(5 * CAPACITY, 20.0) < 0.5 * CAPACITY
    held = shop(DEFAULT, clients)
    held.run(5 * CAPACITY, 10.0)
    share = 1.0 / (1.0 + (DEFAULT.k - 1.0) * REFUSAL_S / LIST_S)
    assert held.run(5 * CAPACITY, 20.0) == pytest.approx(share * CAPACITY, rel=0.05)
    assert held.server.refused / held.server.answered == pytest.approx(DEFAULT.k - 1.0, abs=0.15)


def test_a_server_that_has_room_for_all_gets_all() -> None:
    """Just below the capacity nothing is held back."""
    calm = shop(DEFAULT)
    calm.run(0.95 * CAPACITY, 30.0)
    assert calm.server.refused == 0
    assert calm.throttles[0].refused_here == 0  # type: ignore[union-attr]


def test_room_that_is_back_is_used_within_seconds() -> None:
    """A server refused everything for a minute; then it has room for all, and gets all again within fifteen seconds."""
    clock = Clock()
    throttle = Throttle(clock=clock, draw=random.Random(0).random)
    rate, sent = 100, 0
    for _ in range(60 * rate):
        if throttle.ask() is None:
            sent += 1
            throttle.refused(0.1)
        clock.now += 1 / rate
    assert sent <= DEFAULT.least + 60 / DEFAULT.probe_s + 60  # the first, the probes, and by chance one in `requests` of the others
    for _ in range(15 * rate):
        if throttle.ask() is None:
            throttle.accepted()
        clock.now += 1 / rate
    before = throttle.refused_here
    for _ in range(5 * rate):
        if throttle.ask() is None:
            throttle.accepted()
        clock.now += 1 / rate
    assert throttle.refused_here == before


def told(throttle: Throttle, accepts: int, refusals: int) -> None:
    """Ends of calls, as if they had been sent."""
    throttle._under_way += accepts + refusals
    for _ in range(accepts):
        throttle.accepted()
    for _ in range(refusals):
        throttle.refused(0.1)


def test_one_refusal_among_few_calls_holds_nothing_back() -> None:
    """Fewer calls than `least` say nothing, however many of them were refused; one more does."""
    throttle = Throttle(clock=Clock(), draw=lambda: 0.0)
    told(throttle, 0, DEFAULT.least - 1)
    assert throttle.ask() is None
    told(throttle, 0, 1)
    assert throttle.ask() is not None


@given(accepts=st.integers(0, 49), refusals=st.integers(0, 200), draw=st.floats(0, 1, exclude_max=True), k=st.floats(1, 3))
def test_the_probability_is_the_books(accepts: int, refusals: int, draw: float, k: float) -> None:
    """A call is held back if the draw is below max(0, (requests - k * accepts) / (requests + 1))."""
    throttle = Throttle(Throttling(k=k, least=1), clock=Clock(), draw=lambda: draw)
    throttle.ask()  # so that no probe is due
    told(throttle, accepts, refusals)
    requests = accepts + refusals
    expected = requests >= 1 and draw < max(0.0, (requests - k * accepts) / (requests + 1))
    assert (throttle.ask() is not None) is expected
    assert throttle.refused_here == int(expected)


@given(
    events=st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["ask", "accepted", "refused"])), max_size=200),
    window_s=st.floats(0.5, 20),
)
def test_what_is_older_than_the_window_is_forgotten(events: list[tuple[float, str]], window_s: float) -> None:
    """Whatever happened, the counts are those of the last window, give or take a slice; and after a window of silence there are none."""
    clock = Clock()
    throttle = Throttle(Throttling(window_s=window_s, calm=10**9), clock=clock, draw=lambda: 0.5)
    seen: deque[tuple[float, bool]] = deque()
    for gap, event in events:
        clock.now += gap
        if event != "ask":
            told(throttle, event == "accepted", event == "refused")
        if event != "ask" or throttle.ask() is not None:
            seen.append((clock.now, event == "accepted"))
        young = [good for at, good in seen if at > clock.now - 0.9 * window_s + 1e-6]
        known = [good for at, good in seen if at > clock.now - window_s - 1e-6]
        assert len(young) <= throttle._requests <= len(known)
        assert sum(young) <= throttle._accepts <= sum(known)
    clock.now += window_s
    assert throttle.ask() is None
    assert (throttle._requests, throttle._accepts) == (0, 0)


@given(answers=st.lists(st.booleans(), min_size=1, max_size=300), draws=st.randoms(use_true_random=False))
def test_without_a_refusal_of_the_servers_nothing_is_held_back(answers: list[bool], draws: random.Random) -> None:
    """Calls that ended without telling anything count for nothing."""
    throttle = Throttle(clock=Clock(), draw=draws.random)
    for good in answers:
        assert throttle.ask() is None
        throttle.accepted() if good else throttle.untold()
    assert throttle.refused_here == 0


def test_calls_under_way_are_not_taken_for_refused_ones() -> None:
    """A thousand calls whose answers take long, beside a hundred answered: the next is sent, as long as the server refuses none."""
    throttle = Throttle(clock=Clock(), draw=lambda: 0.0)
    told(throttle, 100, 0)
    assert all(throttle.ask() is None for _ in range(1000))
    told(throttle, 0, 1)
    assert throttle.ask() is not None


@given(accepts=st.integers(100, 400), late=st.integers(0, 400))
def test_a_flood_is_seen_before_its_calls_have_ended(accepts: int, late: int) -> None:
    """One refusal: calls under way count as requests beyond `least` and what answers explain that take a quarter of a window."""
    throttle = Throttle(clock=Clock(), draw=lambda: 0.0)
    told(throttle, accepts, 0)
    for _ in range(late):
        assert throttle.ask() is None
    told(throttle, 0, 1)
    requests = accepts + 1 + max(0, late - DEFAULT.least - accepts // 4)
    assert (throttle.ask() is not None) is (requests > DEFAULT.k * accepts)


def test_deadlines_that_passed_count_only_beside_refusals() -> None:
    """A hundred passed and a hundred were answered: nothing is held back, until one is refused: 201 requests to 100 accepts."""
    throttle = Throttle(clock=Clock(), draw=lambda: 0.0)
    told(throttle, 100, 0)
    for _ in range(100):
        assert throttle.ask() is None
        throttle.late()
    assert throttle.ask() is None
    told(throttle, 0, 1)
    assert throttle.ask() is not None


def test_calls_that_ended_without_telling_anything_are_not_under_way() -> None:
    """A thousand given up by their callers beside one refusal: nothing is held back."""
    throttle = Throttle(clock=Clock(), draw=lambda: 0.0)
    told(throttle, 100, 1)
    for _ in range(1000):
        assert throttle.ask() is None
        throttle.untold()


@pytest.mark.parametrize(("server_s", "expected_s"), [(0.1, DEFAULT.probe_s), (3.0, 3.0), (3600.0, DEFAULT.window_s)])
def test_one_call_is_sent_when_the_server_said_to_come_back(server_s: float, expected_s: float) -> None:
    """However bad the odds: after RetryInfo's time, but not more often than `probe_s` nor later than a window."""
    clock = Clock(0.0)
    throttle = Throttle(clock=clock, draw=lambda: 0.0)
    for _ in range(DEFAULT.least):
        assert throttle.ask() is None
        throttle.refused(server_s)
    clock.now = math.nextafter(expected_s, 0.0)
    assert throttle.ask() == expected_s
    clock.now = expected_s
    assert throttle.ask() is None
    if expected_s < DEFAULT.window_s:
        assert throttle.ask() == expected_s


def test_enough_calls_let_in_one_after_another_end_it() -> None:
    """One refusal between them, and it goes on."""
    for between, ended in ((0, True), (1, False)):
        throttle = Throttle(clock=Clock(), draw=lambda: 0.0)
        throttle.ask()
        told(throttle, 0, 1000)
        told(throttle, DEFAULT.calm - 1, between)
        told(throttle, 1, 0)
        assert (throttle.ask() is None) is ended


def test_threads_take_turns() -> None:
    """While one counts no other does, even if it is held up in the middle."""
    within: list[int] = []
    most = 0

    def clock() -> float:
        nonlocal most
        within.append(1)
        most = max(most, len(within))
        time.sleep(0.0001)  # whoever is not kept out comes in now
        within.pop()
        return 0.0

    throttle = Throttle(Throttling(least=10**9), clock=clock)
    threads = [threading.Thread(target=told, args=(throttle, 0, 50)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == 1
    assert throttle._requests == 4 * 50


@pytest.mark.parametrize("name", ["k", "window_s", "least", "calm", "probe_s"])
@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "2", True, None])
def test_settings_that_make_no_sense_are_named(name: str, wrong: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidField, match=rf"throttling\.{name}: must be"):
        Throttling(**{name: wrong})
