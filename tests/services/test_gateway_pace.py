"""What is sent to a model that is busy: the rule under a virtual clock, and in a simulation of too many lists."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from services.gateway.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_refused_before_anything_is_known() -> None:
    """Nor where nothing is under way: there is nothing to wait for."""
    clock = Clock()
    pace = Pace(clock)
    assert pace.in_time(1000, 0.0)
    pace.began(100)
    assert pace.in_time(1000, 0.0)
    clock.now = 10.0
    pace.ended(100, answered=True)
    assert pace.in_time(1000, 0.0)


def test_a_pair_takes_what_it_took_while_the_model_was_busy() -> None:
    """Ten pairs a second, whether asked for one after the other or at once; pauses in which nothing was under way do not count."""
    clock = Clock()
    pace = Pace(clock)
    for start in (0.0, 100.0):
        clock.now = start
        pace.began(10)
        pace.began(10)
        clock.now = start + 1.0
        pace.ended(10, answered=True)
        clock.now = start + 2.0
        pace.ended(10, answered=True)
    pace.began(10)
    assert pace.in_time(10, 2.0 * 2.0 + 1e-9)
    assert not pace.in_time(10, 2.0 * 2.0 - 1e-9)


def test_what_brings_no_answer_tells_nothing_of_the_pace() -> None:
    """A call that hung for a minute is no measure of what pairs take."""
    clock = Clock()
    pace = Pace(clock)
    pace.began(10)
    clock.now = 1.0
    pace.ended(10, answered=True)
    pace.began(10)
    clock.now = 61.0
    pace.ended(10, answered=False)
    assert pace.under_way == 0
    pace.began(10)
    assert pace.in_time(10, 4.0)


def test_a_stall_is_forgotten() -> None:
    """After a minute in which the model stood still, two dozen answers at the old pace let lists in again."""
    clock = Clock()
    pace = Pace(clock)
    pace.began(10)
    clock.now = 60.0
    pace.ended(10, answered=True)
    for _ in range(24):
        pace.began(10)
        clock.now += 0.1
        pace.ended(10, answered=True)
    pace.began(10)
    assert pace.in_time(10, 1.0)


@pytest.mark.parametrize("times", [1.0, 2.0, 5.0])
def test_lists_in_time_stay_what_the_model_can_do(times: float) -> None:
    """Lists of 25 pairs come by chance at one to five times the capacity of a model that takes 50 ms for each, give or take a third, and
    are of use within a second: nine tenths of what it can do are in time."""
    rng, clock = np.random.default_rng(0), Clock()
    pace = Pace(clock)
    arrivals = np.cumsum(rng.exponential(0.05 / times, int(60 * 20 * times)))
    free_at, good, ends = 0.0, 0, list[float]()
    for moment in arrivals.tolist():
        while ends and ends[0] <= moment:
            clock.now = heapq.heappop(ends)
            pace.ended(25, answered=True)
        clock.now = moment
        if not pace.in_time(25, 1.0):
            continue
        pace.began(25)
        free_at = max(free_at, moment) + 0.05 * rng.uniform(0.67, 1.33)
        heapq.heappush(ends, free_at)
        good += free_at - moment <= 1.0
    assert good / arrivals[-1] >= 0.9 * 20
