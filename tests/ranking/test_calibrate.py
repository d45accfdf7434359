"""From log-odds to probabilities that mean what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.calibrate import Calibrator, logit, sigmoid, undo_negative_sampling

reals = st.floats(-60, 60)
CALIBRATORS = [
    Calibrator(),
    Calibrator("platt", a=0.7, b=-1.2),
    Calibrator("isotonic", x=(-3.0, -1.0, 0.5, 4.0), y=(0.01, 0.1, 0.1, 0.9)),
    Calibrator("isotonic", x=(0.0,), y=(0.25,)),
]


@given(st.floats(-29, 29))
def test_logit_undoes_sigmoid(x: float) -> None:
    """logit(sigmoid(x)) = x as far as a double near 1 can tell."""
    spacing = np.finfo(float).eps / float(sigmoid(np.array([-abs(x)]))[0])  # what one step of p near 1 is in log-odds
    assert logit(sigmoid(np.array([x])))[0] == pytest.approx(x, abs=1e-9 + 4 * spacing)


def test_extremes_are_finite_and_nan_stays() -> None:
    """Certainty is clipped to log-odds of ±30, infinite log-odds are certain, and what was never scored stays NaN."""
    assert logit(np.array([0.0, 1.0])).tolist() == [-30.0, 30.0]
    low, half, high, absent = sigmoid(np.array([-math.inf, 0.0, math.inf, math.nan])).tolist()
    assert (half, 0 < low < 1e-12, 1 - 1e-12 < high <= 1) == (0.5, True, True)
    assert math.isnan(absent)
    assert math.isnan(logit(np.array([math.nan]))[0])


def test_platt_is_a_line_in_log_odds() -> None:
    """platt(x) = 1 / (1 + e^-(a·x + b))."""
    got = Calibrator("platt", a=2.0, b=-1.0)(np.array([0.0, 1.5]))
    assert got.tolist() == pytest.approx([1 / (1 + math.exp(1.0)), 1 / (1 + math.exp(-2.0))])


def test_isotonic_interpolates_between_knots_and_is_flat_outside() -> None:
    """Half-way between two knots lies half-way between their values; beyond the ends the end values hold."""
    got = Calibrator("isotonic", x=(0.0, 2.0), y=(0.2, 0.6))(np.array([-9.0, 0.0, 1.0, 2.0, 9.0]))
    assert got.tolist() == pytest.approx([0.2, 0.2, (0.2 + 0.6) / 2, 0.6, 0.6])


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@given(xs=st.lists(reals, min_size=2, max_size=20))
def test_every_calibrator_is_monotone_and_gives_probabilities(calibrator: Calibrator, xs: list[float]) -> None:
    """A higher log-odds never becomes a lower probability, all lie in [0, 1], NaN stays NaN."""
    p = calibrator(np.sort(xs))
    assert (np.diff(p) >= 0).all()
    assert ((p >= 0) & (p <= 1)).all()
    assert np.isnan(calibrator(np.array([np.nan])))[0]


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_calibrator_survives_the_round_trip(calibrator: Calibrator) -> None:
    """from_json(to_json(c)) is c."""
    assert Calibrator.from_json(calibrator.to_json()) == calibrator


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kind": "magic"}, "kind: 'magic' is not one of identity, platt, isotonic"),
    ({"kind": "platt", "a": 0.0}, "a, b: must be finite with a > 0"),
    ({"kind": "platt", "a": -1.0}, "a, b: must be finite with a > 0"),
    ({"kind": "platt", "b": math.inf}, "a, b: must be finite with a > 0"),
    ({"kind": "platt", "a": "1"}, "a: must be a number, got '1'"),
    ({"kind": "isotonic"}, "x, y: need equally many knots"),
    ({"kind": "isotonic", "x": [0.0, 1.0], "y": [0.5]}, "x, y: need equally many knots, at least 1; got 2 and 1"),
    ({"kind": "isotonic", "x": 3, "y": [0.5]}, "x: must be a list of numbers, got 3"),
    ({"kind": "isotonic", "x": [1.0, 0.0], "y": [0.1, 0.2]}, "x, y: knots must be finite and non-decreasing"),
    ({"kind": "isotonic", "x": [0.0, 1.0], "y": [0.2, 0.1]}, "x, y: knots must be finite and non-decreasing"),
    ({"kind": "isotonic", "x": [0.0], "y": [1.1]}, "x, y: knots must be finite and non-decreasing"),
    ({"kind": "isotonic", "x": [0.0], "y": [math.nan]}, "x, y: knots must be finite and non-decreasing"),
    ({"kind": "identity", "temperature": 2.0}, "temperature: unknown key"),
]


@pytest.mark.parametrize(("data", "message"), BAD, ids=[str(d) for d, _ in BAD])
def test_a_bad_calibrator_says_what_is_wrong(data: dict[str, Any], message: str) -> None:
    """Each bad calibrator is refused with its key in front."""
    with pytest.raises(ValueError, match=r".") as refused:
        Calibrator.from_json(data)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(("true", "sampled"), [(0.001, 0.009911), (0.01, 0.091743), (0.05, 0.344828), (0.3, 0.810811)])
def test_negative_sampling_is_undone_exactly(true: float, sampled: float) -> None:
    """With a tenth of the negatives kept, odds are ten times too high: p = q / (q + (1 - q) · w), and back again."""
    w = 0.1
    p = true / (true + (1 - true) * w)
    assert p == pytest.approx(sampled, abs=5e-7)
    assert undo_negative_sampling(np.array([p]), w)[0] == pytest.approx(true, rel=1e-12)


@given(st.floats(0, 1), st.floats(1e-6, 1))
def test_undoing_sampling_lowers_probabilities_and_keeps_the_ends(p: float, w: float) -> None:
    """Negatives were dropped, so the true probability is never higher; 0 and 1 stay; keeping all changes nothing."""
    assert undo_negative_sampling(np.array([p]), w)[0] <= p * (1 + 1e-12)
    assert undo_negative_sampling(np.array([0.0, 1.0]), w).tolist() == [0.0, 1.0]
    assert undo_negative_sampling(np.array([p]), 1.0)[0] == pytest.approx(p)


@pytest.mark.parametrize("w", [0.0, -0.1, 1.1, math.nan])
def test_a_keep_rate_that_is_none_is_refused(w: float) -> None:
    """A rate outside (0, 1] cannot have been the sampling's."""
    with pytest.raises(ValueError, match=r"^keep_rate: must be in"):
        undo_negative_sampling(np.array([0.5]), w)
