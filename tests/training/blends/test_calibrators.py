from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ranking.calibrate import Calibrator, sigmoid
from training.blends.calibrators import CALIBRATORS, fit_isotonic, fit_platt, fit_temperature
from training.imbalance.priors import from_sampled


def test_platt_recovers_the_map_that_made_the_labels() -> None:
    """Labels drawn from sigmoid(2x - 1) give a near 2 and b near -1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=50_000)
    y = rng.random(len(x)) < sigmoid(2 * x - 1)
    fitted = fit_platt(x, y)
    standard_error = 0.03  # about 1/√(n p (1 - p) var x)
    assert fitted.a == pytest.approx(2, abs=3 * standard_error)
    assert fitted.b == pytest.approx(-1, abs=3 * standard_error)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_mean_prediction_equals_the_rate(fit: object) -> None:
    """On the rows it was fitted on, a calibrator predicts as many positives as there were."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=3000)
    y = rng.random(len(x)) < 0.1 + 0.2 * (x > 0)
    assert fit(x, y)(x).mean() == pytest.approx(y.mean(), abs=1e-3)  # type: ignore[operator]


def test_unscored_rows_are_left_out_and_stay_unscored() -> None:
    """NaN log-odds neither spoil the fit nor get a probability."""
    x = np.array([-2.0, -1.0, np.nan, 1.0, 2.0, 0.0])
    y = np.array([0, 0, 1, 1, 1, 0])
    fitted = fit_platt(x, y)
    assert fitted == fit_platt(x[~np.isnan(x)], y[~np.isnan(x)])
    assert np.isnan(fitted(x)).tolist() == np.isnan(x).tolist()


def test_a_member_worse_than_chance_is_flattened_not_reversed() -> None:
    """The slope stays positive: a calibrator never turns a member's order around, and what it says still sums to what happened."""
    x = np.linspace(-3, 3, 200)
    calibrator = fit_platt(x, x < 0.5)
    assert 0 < calibrator.a < 0.01
    assert calibrator(x).mean() == pytest.approx((x < 0.5).mean(), abs=1e-3)


def test_separable_rows_stay_finite() -> None:
    """Perfect separation gives a steep but finite slope."""
    assert np.isfinite(fit_platt(np.array([-1.0, 1.0]), np.array([0, 1])).a)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_is_refused(labels: list[int]) -> None:
    """Calibration needs both outcomes."""
    with pytest.raises(ValueError, match="need both classes"):
        fit_platt(np.array([0.0, 1.0]), np.array(labels))


def test_temperature_recovers_the_sharpness_that_made_the_labels() -> None:
    """Labels drawn from sigmoid(x / 2.5) give T near 2.5 and no intercept."""
    rng = np.random.default_rng(2)
    x = rng.normal(scale=3, size=50_000)
    fitted = fit_temperature(x, rng.random(len(x)) < sigmoid(x / 2.5))
    standard_error = 0.03  # of T: T²·1/√(Σ p (1 - p) x²)
    assert 1 / fitted.a == pytest.approx(2.5, abs=3 * standard_error)
    assert fitted.b == 0.0


def test_temperature_is_the_best_of_all() -> None:
    """No temperature on a fine grid has a lower log loss."""
    rng = np.random.default_rng(3)
    x = rng.normal(loc=-1, size=2000)
    y = rng.random(len(x)) < sigmoid(0.4 * x)

    def log_loss(a: float) -> float:
        return float(np.logaddexp(0, a * x).mean() - (a * x)[y].sum() / len(x))

    assert log_loss(fit_temperature(x, y).a) <= min(log_loss(a) for a in np.linspace(0.01, 3, 1000)) + 1e-9


@pytest.mark.parametrize("name", list(CALIBRATORS))
def test_every_calibrator_keeps_the_order(name: str) -> None:
    """A calibrator never puts a lower score above a higher one."""
    rng = np.random.default_rng(4)
    x = np.sort(rng.normal(size=500))
    p = CALIBRATORS[name](x, rng.random(500) < sigmoid(x))(x)
    assert (np.diff(p) >= 0).all()


def test_isotonic_recovers_the_map_that_made_the_labels() -> None:
    """Labels drawn from any rising map, here one with a step that no line in log-odds follows, give it back to within their noise."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-2, 2, 50_000)
    true = np.where(x < 0, 0.1, 0.5) + 0.1 * x
    y = rng.random(len(x)) < np.clip(true, 0, 1)
    grid = np.array([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5])
    want = np.clip(np.where(grid < 0, 0.1, 0.5) + 0.1 * grid, 0, 1)
    np.testing.assert_allclose(fit_isotonic(x, y)(grid), want, atol=0.04)  # of blocks of about 2,000 rows: 3 · √(.25 / 2,000)
    assert np.abs(fit_platt(x, y)(grid) - want).max() > 0.08


@pytest.mark.parametrize("keep", [0.03, 0.2])
def test_platt_finds_the_shift_that_sampling_made(keep: float) -> None:
    """A model of rows of which a share of the negatives was kept is off by -ln of the share: Platt's b, and the exact correction."""
    rng = np.random.default_rng(6)
    x = rng.normal(-3, 1, 100_000)  # true log-odds
    y = rng.random(len(x)) < sigmoid(x)
    sampled = x - np.log(keep)  # what a model of the thinned rows says
    fitted = fit_platt(sampled, y)
    assert fitted.a == pytest.approx(1, abs=0.06)
    assert fitted.b == pytest.approx(np.log(keep), abs=0.12)
    np.testing.assert_allclose(fitted(sampled).mean(), y.mean(), rtol=1e-3)
    np.testing.assert_allclose(from_sampled(sigmoid(sampled), keep), sigmoid(x), rtol=1e-9)


def test_temperature_cannot_undo_a_changed_prior() -> None:
    """It moves no rate: after sampling without correction it leaves twice the positives and more, where Platt leaves none too many."""
    rng = np.random.default_rng(7)
    x = rng.normal(-3, 1, 20_000)
    y = rng.random(len(x)) < sigmoid(x)
    sampled = x - np.log(0.1)
    assert fit_temperature(sampled, y)(sampled).mean() > 2 * y.mean()
    assert fit_platt(sampled, y)(sampled).mean() == pytest.approx(y.mean(), rel=1e-3)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
@pytest.mark.parametrize(("factor", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1000.0), (40.0, -2000.0)])
def test_a_member_in_other_units_gets_the_same_probabilities(fit: Callable[..., Calibrator], factor: float, shift: float) -> None:
    """Scores c·x + d say what x says: the fitted map undoes any unit and any zero."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=4000)
    y = rng.random(len(x)) < sigmoid(1.5 * x - 2)
    np.testing.assert_allclose(fit(factor * x + shift, y)(factor * x + shift), fit(x, y)(x), rtol=1e-6)


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_temperature_is_found_in_any_unit(factor: float) -> None:
    """Log-odds in another unit have another temperature and the same probabilities; a shift would move its zero."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=4000)
    y = rng.random(len(x)) < sigmoid(1.5 * x)
    np.testing.assert_allclose(fit_temperature(factor * x, y).a, fit_temperature(x, y).a / factor, rtol=1e-9)


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_a_member_worse_than_chance_is_flattened_in_any_unit(factor: float) -> None:
    """The least slope is counted per spread of the scores, so nearly flat is nearly flat, and the base rate stays."""
    x = np.linspace(-3, 3, 200) * factor
    y = np.arange(200) < 120
    for fit in (fit_platt, fit_temperature):
        calibrator = fit(x, y)
        assert calibrator.a > 0
        assert np.ptp(calibrator(x)) < 0.01
    assert fit_platt(x, y)(x).mean() == pytest.approx(y.mean(), abs=1e-3)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_scores_that_are_all_alike_say_the_base_rate(fit: Callable[..., Calibrator], value: float) -> None:
    """Without any spread there is nothing but the rate, also where the mean of equal numbers is rounded."""
    x, y = np.full(11, value), np.arange(11) < 4
    np.testing.assert_allclose(fit(x, y)(x), 4 / 11, rtol=1e-6)


@pytest.mark.parametrize("name", list(CALIBRATORS))
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([0.0, 1.0, 2.0], [0, 1, 2], "labels: must be 0 or 1, got 2"),
        ([0.0, 1.0, 2.0], [-1, 1, 1], "labels: must be 0 or 1, got -1"),
        ([0.0, 1.0, 2.0], [0, 1, np.nan], "labels: must be 0 or 1, got nan"),
        ([0.0, 1.0, 2.0], [0, 1], "labels: need one per score"),
        ([0.0, 1.0, np.inf], [0, 1, 1], "logits: must be finite"),
        ([-np.inf, 1.0, 2.0], [0, 1, 1], "logits: must be finite"),
        ([np.nan, np.nan, np.nan], [0, 1, 1], "logits: need at least one score"),
    ],
)
def test_what_cannot_be_fitted_is_named(name: str, logits: list[float], labels: list[float], message: str) -> None:
    """Labels are outcomes and scores are numbers, for every calibrator alike."""
    with pytest.raises(ValueError, match=f"^{message}"):
        CALIBRATORS[name](np.array(logits), np.array(labels))
