"""The gate's rules under a virtual clock: who runs, who waits, who is refused, and what that is worth when five times too many call."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.rpc.admission
from ranking.errors import Overloaded
from services.rpc.admission import TICK_S, Admission
from services.rpc.overload import AdaptiveLimit, Bounds, Gate, Place
from tests.services.gateway_fakes import eventually

WORK_S = 0.004  # of the loop's time a call takes
HANDLING_S = 0.00005  # what a call costs before it is let in or refused
CAPACITY = 1.0 / (WORK_S + HANDLING_S)  # calls per second
DEADLINE_S = 0.25
BEGIN_S = 3.0  # until the limit has come down from its most


@dataclass
class Loop:
    """A process with one event loop under a steady stream of calls: who comes is taken first, then one call's work begins."""

    bounds: Bounds
    rate: float  # calls per second
    away_s: float = 0.0  # a call waits so long for somebody else after its work, which costs the loop nothing
    deadline_s: float = DEADLINE_S
    now: float = 0.0
    good: int = 0
    late: int = 0
    refused: int = 0
    arrived: int = 0
    waits: list[float] = field(default_factory=list)  # in the queue, of those let in from it

    def __post_init__(self) -> None:
        self.gate = Gate(self.bounds, lambda: self.now)
        self.ready: deque[tuple[float, float]] = deque()  # arrived, let in
        self.away: deque[tuple[float, float, float]] = deque()  # back at, arrived, let in
        self.tick_due = TICK_S

    def run(self, until_s: float) -> Loop:
        """Go on until then."""
        while self.now < until_s:
            while self.arrived / self.rate <= self.now:
                self._arrive(self.arrived / self.rate)
            if self.now >= self.tick_due:
                self.gate.tick()
                self.tick_due = self.now + TICK_S
            while self.away and self.away[0][0] <= self.now:
                self._end(*self.away.popleft()[1:])
            if self.ready:
                self._work(*self.ready.popleft())
            else:  # nothing to do: sleep until something is
                self.now = max(self.now, min(self.tick_due, self.arrived / self.rate, *(back for back, _, _ in self.away)))
        return self

    def _arrive(self, at: float) -> None:
        self.arrived += 1
        self.now += HANDLING_S
        asked = self.now

        def wake(refused: Overloaded | None) -> bool:
            if refused is None:
                self.waits.append(self.now - asked)
                self.ready.append((at, self.now))
            else:
                self.refused += 1
            return True

        try:
            if self.gate.ask(at + self.deadline_s - self.now, wake) is None:
                self.ready.append((at, self.now))
        except Overloaded:
            self.refused += 1

    def _work(self, arrived: float, entered: float) -> None:
        self.gate.waited(self.now - entered)
        self.now += WORK_S
        if self.away_s:
            self.away.append((self.now + self.away_s, arrived, entered))
        else:
            self._end(arrived, entered)

    def _end(self, arrived: float, entered: float) -> None:
        self.gate.leave(self.now - entered)
        if self.now - arrived <= self.deadline_s:
            self.good += 1
        else:
            self.late += 1


@pytest.mark.parametrize("load", [1.0, 1.5, 2.0, 3.0, 5.0])
def test_goodput_stays_flat_from_capacity_to_five_times_of_it(load: float) -> None:
    """Answers in time per second are at least nine tenths of capacity less what refusing costs, whatever the load, and none comes late."""
    loop = Loop(Bounds(), load * CAPACITY).run(BEGIN_S)
    good, late = loop.good, loop.late
    loop.run(BEGIN_S + 10.0)
    refusing = max(load - 1.0, 0.0) * CAPACITY * HANDLING_S  # share of the loop's time
    assert (loop.good - good) / 10.0 >= 0.95 * (1.0 - refusing) * CAPACITY
    assert (loop.good - good) / 10.0 >= 0.9 * CAPACITY
    assert loop.late == late


def test_without_a_limit_every_answer_comes_too_late() -> None:
    """The yardstick: the same loop that takes every call at twice its capacity answers hardly anybody in time."""
    loop = Loop(Bounds(most=10**6, queue=0, target_s=None), 2.0 * CAPACITY).run(20.0)
    assert loop.good / 20.0 < 0.1 * CAPACITY


def test_slow_models_do_not_make_the_limit_smaller() -> None:
    """Calls that wait two seconds for somebody else, with a loop at a third of its capacity, are all let in: they degrade instead."""
    loop = Loop(Bounds(), CAPACITY / 3, away_s=2.0, deadline_s=3.0).run(10.0)
    assert Bounds().most > CAPACITY / 3 * 2.0
    assert (loop.refused, loop.late) == (0, 0)


async def test_calls_begin_one_by_one_and_those_at_the_door_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real loop: each of 40 calls holds it up with its work, and nevertheless all are in before the second one's begins."""
    monkeypatch.setattr(services.rpc.admission, "_PATIENCE_S", 60.0)  # whatever the machine is busy with
    monkeypatch.setattr(services.rpc.admission, "_IDLE_S", 60.0)
    admission = Admission({"service": Bounds(most=64, target_s=60.0)}, 1.0)
    begun: list[int] = []  # how many were in when a call's work began

    async def call() -> None:
        admission.came()
        async with admission.entered("service", 60.0):
            begun.append(admission.load()["service"].running)
            time.sleep(0.001)  # noqa: ASYNC251 - work is what holds up the loop

    async def newcomers() -> None:
        for _ in range(40):  # as grpc.aio takes them: one, a turn or two later the next
            calls.append(asyncio.create_task(call()))
            await asyncio.sleep(0)

    calls: list[asyncio.Task[None]] = []
    await newcomers()
    await asyncio.gather(*calls)
    assert len(begun) == 40
    assert begun[:3] == [1, 39, 38]  # the first found nobody else, and was gone before the second
    assert admission.load()["service"].running == 0


async def test_a_loop_that_is_late_brings_the_limit_down_to_its_least() -> None:
    """The real loop with more work than it can do: those let in wait longer than a millisecond, and the limit halves until its least."""
    admission = Admission({"service": Bounds(most=64, least=8, queue=0, target_s=0.001)}, 1.0)

    async def caller() -> None:
        while True:
            with suppress(Overloaded):
                async with admission.entered("service", 60.0):
                    time.sleep(0.002)  # noqa: ASYNC251 - work is what holds up the loop
            await asyncio.sleep(0)

    admission.start()
    calling = [asyncio.create_task(caller()) for _ in range(100)]
    await eventually(lambda: admission.load()["service"].limit == 8)
    for one in calling:
        one.cancel()
    await asyncio.gather(*calling, return_exceptions=True)
    await admission.stop()
    assert admission.load()["service"].running == 0


def test_nobody_waits_longer_than_its_bound() -> None:
    """Under five times the capacity those let in from the queue waited at most `wait_s`."""
    loop = Loop(Bounds(wait_s=0.05), 5.0 * CAPACITY).run(10.0)
    assert loop.waits
    assert max(loop.waits) <= 0.05


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Caller:
    """Notes how it was woken."""

    heard: list[Overloaded | None] = field(default_factory=list)
    there: bool = True

    def wake(self, refused: Overloaded | None) -> bool:
        if self.there:
            self.heard.append(refused)
        return self.there


def waiting(gate: Gate, caller: Caller, left_s: float = 10.0) -> Place:
    place = gate.ask(left_s, caller.wake)
    assert place is not None
    return place


def full(clock: Clock, **bounds: float) -> Gate:
    """A gate for one call, which runs; calls before it took a second."""
    gate = Gate(Bounds(most=1, **({"wait_s": 5.0} | bounds)), clock)  # type: ignore[arg-type]
    assert gate.ask(10.0, Caller().wake) is None
    gate.leave(1.0)
    assert gate.ask(10.0, Caller().wake) is None
    return gate


def test_the_queue_is_served_in_the_order_of_arrival() -> None:
    """One place, two waiting: each leaving lets the next one in, and no newcomer passes them."""
    gate, callers = full(Clock()), [Caller(), Caller()]
    for caller in callers:
        waiting(gate, caller)
    gate.leave(1.0)
    assert [c.heard for c in callers] == [[None], []]
    gate.leave(1.0)
    assert [c.heard for c in callers] == [[None], [None]]
    assert (gate.running, gate.waiting) == (1, 0)


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    """Two places in the queue are taken: the third call hears that four would need to end first, at a second each."""
    gate = full(Clock(), queue=2)
    for _ in range(2):
        waiting(gate, Caller())
    with pytest.raises(Overloaded, match="as many as 2 wait") as caught:
        gate.ask(10.0, Caller().wake)
    assert caught.value.retry_s == 3.0  # the two and this one, one after the other
    assert (gate.refused, gate.waiting) == (1, 2)


def test_a_call_that_cannot_be_answered_in_time_is_refused_at_once() -> None:
    """A wait of a second is expected: with two seconds left half of it would be gone, with three it waits."""
    gate = full(Clock())
    with pytest.raises(Overloaded, match="would wait 1 s, more than the 1 s it can"):
        gate.ask(2.0, Caller().wake)
    waiting(gate, Caller(), left_s=3.0)


@pytest.mark.parametrize("left_s", [0.0, -1.0])
def test_a_call_whose_deadline_has_passed_never_waits(left_s: float) -> None:
    """There is no time to wait in, even where no wait is expected yet."""
    gate = Gate(Bounds(most=1), Clock())
    gate.ask(1.0, Caller().wake)
    with pytest.raises(Overloaded):
        gate.ask(left_s, Caller().wake)


def test_a_wait_that_lasts_too_long_ends_with_a_refusal() -> None:
    """The one that runs does not leave: the tick after the bound refuses who waits."""
    clock, caller = Clock(), Caller()
    gate = full(clock)
    waiting(gate, caller, left_s=4.0)  # it may wait for two seconds
    clock.now = 1.9
    gate.tick()
    assert not caller.heard
    clock.now = 2.0
    gate.tick()
    assert [type(heard) for heard in caller.heard] == [Overloaded]
    assert (gate.running, gate.waiting) == (1, 0)


def test_callers_who_left_take_no_place() -> None:
    """One withdrew and one is gone when its turn comes: the third one runs."""
    gate, withdrew, gone, third = full(Clock()), Caller(), Caller(), Caller()
    place = waiting(gate, withdrew)
    waiting(gate, gone)
    waiting(gate, third)
    gate.withdraw(place)
    gone.there = False
    gate.leave(1.0)
    assert (withdrew.heard, gone.heard, third.heard) == ([], [], [None])
    assert gate.running == 1


def after(limit: AdaptiveLimit, running: int, *waits: float) -> float:
    """The limit once a tick has passed after each of these waits."""
    for wait in waits:
        limit.running(running)
        limit.waited(wait)
        limit.tick()
    return limit.value


def test_the_limit_falls_only_after_a_window_of_long_waits() -> None:
    """Four waits of 12 ms where 10 are allowed leave 10/12 of it; ten times as long leave half; one short wait among them is a burst."""
    limit = AdaptiveLimit(Bounds(most=120))
    assert after(limit, 120, 0.012, 0.012, 0.012) == 120.0
    assert after(limit, 120, 0.012) == pytest.approx(100.0)
    assert after(limit, 10, 0.1, 0.0, 0.1, 0.1) == pytest.approx(100.0)
    assert after(limit, 10, *[0.1] * 4) == pytest.approx(50.0)


def test_the_limit_rises_only_while_it_is_in_use() -> None:
    """Half of the limit running counts as use: a twentieth is added, up to the most."""
    limit = AdaptiveLimit(Bounds(most=100))
    assert after(limit, 100, *[0.1] * 4) == 50.0
    assert after(limit, 24, *[0.0] * 4) == 50.0
    assert after(limit, 25, *[0.0] * 4) == pytest.approx(50 * 1.05)
    assert after(limit, 100, *[0.0] * 400) == 100.0


def test_a_window_in_which_no_call_began_says_nothing_against_the_limit() -> None:
    """All that run wait for somebody else: four ticks without a wait, and the limit rises."""
    limit = AdaptiveLimit(Bounds(most=100))
    after(limit, 100, *[0.1] * 4)
    for _ in range(4):
        limit.running(50)
        limit.tick()
    assert limit.value == pytest.approx(50 * 1.05)


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 10)), max_size=200), st.integers(1, 50))
def test_the_limit_stays_within_its_bounds(seen: list[tuple[int, float]], least: int) -> None:
    """Whatever is seen, at least the least and at most the most may run."""
    limit = AdaptiveLimit(Bounds(most=40, least=least))
    for running, wait in seen:
        after(limit, running, wait)
        assert min(least, 40) <= limit.value <= 40


@given(st.lists(st.sampled_from(["ask", "leave", "withdraw", "late", "time"]), max_size=300), st.integers(1, 5), st.integers(0, 4))
def test_every_call_is_let_in_once_or_refused_once(steps: list[str], most: int, queue: int) -> None:
    """Whatever happens in whatever order, running and waiting calls never exceed their bounds, and nobody is forgotten."""
    clock = Clock()
    gate = Gate(Bounds(most=most, least=1, queue=queue), clock)
    running = refused = withdrawn = asked = 0
    places: list[tuple[Place, Caller]] = []
    for step in steps:
        if step == "ask":
            asked += 1
            caller = Caller()
            try:
                place = gate.ask(1.0, caller.wake)
            except Overloaded:
                refused += 1
            else:
                running += place is None
                if place is not None:
                    places.append((place, caller))
        elif step == "leave" and running:
            running -= 1
            asked -= 1
            gate.leave(0.1)
        elif step == "withdraw" and places:
            gate.withdraw(places.pop(0)[0])
            withdrawn += 1
        else:
            clock.now += 0.2 if step == "time" else 0.0
            gate.waited(0.5 if step == "late" else 0.0)
            gate.tick()
        running += sum(c.heard == [None] for _, c in places)
        refused += sum(len(c.heard) == 1 and c.heard[0] is not None for _, c in places)
        places = [(p, c) for p, c in places if not c.heard]
        assert (gate.running, gate.waiting) == (running, len(places))
        assert running <= most
        assert len(places) <= queue
        assert running + refused + withdrawn + len(places) == asked
