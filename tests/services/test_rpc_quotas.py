"""What callers may ask for: token buckets and daily counts under a virtual clock, and the file that says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.errors import Overloaded
from services.rpc.errors import to_status
from services.rpc.quotas import Allowance, Plan, Quotas, read
from services.rpc.settings import InvalidSettingError

DAY = 86_400.0


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def taken(quotas: Quotas, caller: str, calls: int) -> int:
    """How many of so many calls at once are let through."""
    done = 0
    for _ in range(calls):
        try:
            quotas.take(caller)
        except Overloaded:
            continue
        done += 1
    return done


def test_a_bucket_holds_a_burst_and_fills_at_the_rate() -> None:
    """Five at once, then two a second; after a long pause five again, not more."""
    clock = Clock()
    quotas = Quotas(Plan(Allowance(2.0, 5.0)), clock=clock, wall=Clock())
    assert taken(quotas, "a", 9) == 5
    clock.now = 1.0
    assert taken(quotas, "a", 9) == 2
    clock.now = 100.0
    assert taken(quotas, "a", 9) == 5


def test_a_refusal_says_when_the_next_call_passes() -> None:
    """The bucket lacks a whole call at two a second: half a second; and then it does pass."""
    clock = Clock()
    quotas = Quotas(Plan(Allowance(2.0, 1.0)), clock=clock, wall=Clock())
    quotas.take("a")
    with pytest.raises(Overloaded, match=r"caller 'a' is limited to 2 calls per second") as caught:
        quotas.take("a")
    assert caught.value.retry_s == 0.5
    clock.now += caught.value.retry_s
    quotas.take("a")


def test_a_day_has_its_quota_from_midnight_to_midnight() -> None:
    """Three calls, then none until the UTC day ends an hour later, whatever the monotonic clock says."""
    wall = Clock(10 * DAY + 23 * 3600.0)
    quotas = Quotas(Plan(Allowance(calls_per_day=3)), clock=Clock(), wall=wall)
    assert taken(quotas, "a", 5) == 3
    with pytest.raises(Overloaded, match="quota of 3 calls a day") as caught:
        quotas.take("a")
    assert caught.value.retry_s == 3600.0
    wall.now += caught.value.retry_s
    assert taken(quotas, "a", 5) == 3


def test_a_clock_set_back_over_midnight_gives_nothing_anew() -> None:
    """What was used of the new day is still used when the clock steps back into the old one and comes by midnight again."""
    wall = Clock(11 * DAY + 5.0)
    quotas = Quotas(Plan(Allowance(calls_per_day=3)), clock=Clock(), wall=wall)
    assert taken(quotas, "a", 5) == 3
    for wall.now in (11 * DAY - 30.0, 11 * DAY + 1.0):
        assert taken(quotas, "a", 5) == 0
    wall.now = 12 * DAY
    assert taken(quotas, "a", 5) == 3


def test_a_clock_that_was_wrong_by_years_is_not_waited_for() -> None:
    """Once it is right again the day it shows counts."""
    wall = Clock(40_000 * DAY)
    quotas = Quotas(Plan(Allowance(calls_per_day=3)), clock=Clock(), wall=wall)
    assert taken(quotas, "a", 5) == 3
    wall.now = 10 * DAY
    assert taken(quotas, "a", 5) == 3


def test_callers_do_not_share_and_strangers_have_the_default() -> None:
    """Each has its own bucket; who is not named has the default's figures."""
    quotas = Quotas(Plan(Allowance(1.0, 1.0), {"big": Allowance(10.0, 10.0)}), clock=Clock(), wall=Clock())
    assert [taken(quotas, caller, 20) for caller in ("big", "a", "b")] == [10, 1, 1]


def test_nobody_is_limited_where_nothing_is_said() -> None:
    """An empty plan lets everything through."""
    assert taken(Quotas(Plan(), clock=Clock(), wall=Clock()), "a", 1000) == 1000


def test_processes_divide_the_figures_among_them() -> None:
    """Four processes allow a quarter each, of the burst, the rate and the day."""
    clock = Clock()
    quotas = Quotas(Plan(Allowance(8.0, 40.0, 48.0)), processes=4, clock=clock, wall=Clock())
    assert taken(quotas, "a", 99) == 10
    clock.now = 1.0
    assert taken(quotas, "a", 99) == 2
    clock.now = 10.0**6
    assert taken(quotas, "a", 99) == 0  # the day's twelve are gone


def test_names_made_up_do_not_grow_memory() -> None:
    """Of more callers than are remembered the one not heard of for longest is forgotten, nobody else."""
    quotas = Quotas(Plan(Allowance(1.0, 1.0)), clock=Clock(), wall=Clock())
    quotas.take("first")
    for i in range(9_999):
        quotas.take(f"c{i}")
    assert taken(quotas, "first", 1) == 0
    for i in range(10_000):
        quotas.take(f"d{i}")
    assert taken(quotas, "first", 1) == 1


@given(st.floats(0.5, 100), st.floats(1, 50), st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_no_more_pass_than_burst_and_rate_allow(rate: float, burst: float, pauses: list[float]) -> None:
    """Over any stretch of time at most the burst and what flowed in since."""
    clock = Clock()
    quotas = Quotas(Plan(Allowance(rate, burst)), clock=clock, wall=Clock())
    passed = 0
    for pause in pauses:
        clock.now += pause
        passed += taken(quotas, "a", 1)
        assert passed <= burst + rate * clock.now + 1e-6


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "limits.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_file_is_read_whole(tmp_path: Path) -> None:
    """Default and callers, each with the keys it gives."""
    found = read(
        written(tmp_path, {"default": {"calls_per_s": 5}, "callers": {"shop": {"calls_per_s": 50, "burst": 9, "calls_per_day": 1e6}}})
    )
    assert found.of("anybody") == Allowance(5)
    assert found.of("shop") == Allowance(50, 9, 1e6)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([], "must be an object"),
        ({"defaults": {}}, "defaults: is not known; known: default, callers"),
        ({"callers": []}, "callers: must be an object"),
        ({"callers": {"shop": 5}}, "callers.shop: must be an object"),
        ({"callers": {"shop": {"calls_per_sec": 5}}}, "callers.shop.calls_per_sec: is not known; known: calls_per_s, burst, calls_per_day"),
        ({"default": {"calls_per_s": 0}}, "default.calls_per_s: must be a number greater than 0, got 0"),
        ({"default": {"calls_per_s": 10**400}}, "default.calls_per_s: must be a number greater than 0, got 1000"),
        ({"default": {"calls_per_s": True}}, "default.calls_per_s: must be a number greater than 0"),
        ({"default": {"calls_per_s": "5"}}, "default.calls_per_s: must be a number greater than 0"),
        ({"default": {"calls_per_s": 5, "burst": 0.5}}, "default.burst: must be a number of at least 1"),
        ({"default": {"burst": 5}}, "default.burst: means nothing without calls_per_s"),
        ({"default": {"calls_per_day": -1}}, "default.calls_per_day: must be a number of at least 1"),
    ],
)
def test_a_wrong_file_is_refused_and_the_key_named(tmp_path: Path, content: Any, why: str) -> None:
    """The message begins with the file."""
    path = written(tmp_path, content)
    with pytest.raises(InvalidSettingError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Limits that cannot be read are not silently none."""
    with pytest.raises(InvalidSettingError, match=r"absent\.json: cannot be read"):
        read(tmp_path / "absent.json")


@pytest.mark.parametrize("rate", [1e-12, 1e-300, 5e-324])
def test_the_wait_is_one_that_can_be_told(rate: float) -> None:
    """Whoever may call once in an age is told to come back in a day, and not with an error of ours."""
    quotas = Quotas(Plan(Allowance(rate)), processes=4, clock=Clock(), wall=Clock())
    quotas.take("shop")
    with pytest.raises(Overloaded) as caught:
        quotas.take("shop")
    assert caught.value.retry_s == 86_400
    assert to_status(caught.value).code == 8
