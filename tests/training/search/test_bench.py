"""What `longtail bench search` makes of the trials it ran."""

from __future__ import annotations

from typing import Any

import pytest

from training.search.bench import Ran, apart


def _row(number: int, seconds: float, **metrics: float) -> dict[str, Any]:
    return {"number": number, "seconds": seconds, "metrics": metrics}


def test_seconds_beside_trials_are_those_no_trial_fills() -> None:
    """Four trials of 3 s on two processes in 10 s: each process computed for 6 s."""
    ran = Ran([_row(i, 3.0) for i in range(4)], 10.0)
    assert ran.per_minute == pytest.approx(4 * 60 / 10)
    assert ran.computing == pytest.approx(3.0)
    assert ran.beside(2) == pytest.approx(10 - 4 * 3 / 2)


def test_what_both_ran_is_held_against_each_other() -> None:
    """By number, the metric that differs most; a trial that only one of them ran says nothing."""
    some = [_row(0, 1.0, a=1.0, b=0.5), _row(1, 1.0, a=1.0, b=0.25), _row(2, 1.0, a=9.0, b=9.0)]
    others = [_row(1, 1.0, a=1.25, b=0.25), _row(0, 1.0, a=1.0, b=1.0)]
    assert apart(some, others) == abs(0.5 - 1.0)
