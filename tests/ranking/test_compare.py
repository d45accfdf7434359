"""Two releases side by side: the differences are those of the data, and too little of it is said to be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ranking.compare import HIGHER, LEAST_UNITS, LOWER, NONE_SHOWN, TOO_LITTLE, Figure, paired, unpaired


def test_the_same_requests_differ_by_their_mean_difference() -> None:
    """Every request rises by 1, whatever the requests' own level: the interval is that 1 alone, also turned round."""
    units = np.repeat(np.arange(2 * LEAST_UNITS), 3)
    level = np.random.default_rng(0).normal(0, 10, len(units))
    up = paired("x", level, level + 1.0, units, 0)
    assert up.difference == pytest.approx((1.0, 1.0, 1.0))
    assert (up.verdict, up.units) == (HIGHER, 2 * LEAST_UNITS)
    assert paired("x", level + 1.0, level, units, 0).verdict == LOWER


def test_few_users_are_too_little_however_many_requests() -> None:
    """A thousand requests of one unit fewer than are needed say nothing; with one unit more they do."""
    for units, verdict in ((LEAST_UNITS - 1, TOO_LITTLE), (LEAST_UNITS, HIGHER)):
        of = np.arange(1000) % units
        assert paired("x", np.zeros(1000), np.ones(1000), of, 0).verdict == verdict
        assert unpaired("x", np.zeros(5000), np.arange(5000), np.ones(1000), of, 0).verdict == verdict
        assert unpaired("x", np.zeros(1000), of, np.ones(5000), np.arange(5000), 0).units == units


def test_what_is_missing_is_left_out() -> None:
    """A request with a NaN on either side is no request; without any there is neither a value nor a verdict."""
    nan = math.nan
    found = paired("x", np.array([1.0, nan, 3.0]), np.array([2.0, 5.0, nan]), np.arange(3), 0)
    assert (found.active, found.tried, found.difference.value, found.units) == (1.0, 2.0, 1.0, 1)
    none = np.array([nan])
    for nothing in (paired("x", none, none, np.arange(1), 0), unpaired("x", none, np.arange(1), none, np.arange(1), 0)):
        assert nothing.verdict == TOO_LITTLE
        assert nothing.units == 0
        assert math.isnan(nothing.difference.value)


def test_requests_of_one_user_do_not_count_as_many() -> None:
    """Each user's requests alike: repeating them a hundred times leaves the interval as wide as it was."""
    users = np.arange(100)
    one, other = np.random.default_rng(1).normal(0, 1, (2, 100))
    once = unpaired("x", one, users, other, users, 0)
    often = unpaired("x", np.repeat(one, 100), np.repeat(users, 100), np.repeat(other, 100), np.repeat(users, 100), 0)
    assert often.difference == pytest.approx(once.difference)


def test_intervals_hold_what_they_promise() -> None:
    """Of 200 experiments without a difference about 5 % show one: at most 12 %, six standard errors more."""

    def experiment(seed: int) -> Figure:
        rng = np.random.default_rng(seed)
        clicks = rng.binomial(1, np.repeat(rng.beta(2, 8, 200), 5)).astype(float)  # users differ, arms do not
        units = np.repeat(np.arange(200), 5)
        return unpaired("clicks", clicks[:500], units[:500], clicks[500:], units[500:], seed)

    shown = [experiment(seed).verdict != NONE_SHOWN for seed in range(200)]
    assert np.mean(shown) <= 0.05 + 6 * (0.05 * 0.95 / 200) ** 0.5
