"""Fitting calibrators on untouched validation lists; what is fitted is applied by `ranking.calibrate`.

Scores need not be log-odds: the maps are fitted on scores of spread 1 and mapped back, so a member in other units gets the same
probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import Calibrator, logit, sigmoid

_RIDGE = 1e-3  # keeps a and b finite where a member separates the classes
_LEAST_SLOPE = 1e-3  # log-odds per spread; a calibrator must not turn an order around: a member worse than chance becomes nearly flat


def fit_platt(logits: NDArray[np.float64], labels: NDArray[Any]) -> Calibrator:
    """Maximum-likelihood a, b of sigmoid(a·x + b), by Newton's method (Platt 1999); the same for x and any c·x + d, c > 0.

    Fitted on z = (x - mean) / standard deviation. A ridge draws the slope towards one log-odds per standard deviation and the intercept
    towards the base rate; it decides nothing unless the rows are few or separated. The slope is at least 1e-3 per standard deviation.

    Args:
        logits: (n,) log-odds, or scores that rise with them; NaN rows are left out.
        labels: (n,) 0 or 1.

    Raises:
        ValueError: no scored row, only one class among them, a label that is neither 0 nor 1, or an infinite score.
    """
    x, y = _both_classes(*_scored(logits, labels))
    same = x.min() == x.max()  # exactly: a rounded mean would leave a spread of rounding errors
    centre, spread = (float(x[0]), 1.0) if same else (float(x.mean()), float(x.std()))
    z, base = (x - centre) / spread, float(logit(np.array([y.mean()]))[0])
    slope, intercept = _newton(np.stack([z, np.ones_like(z)], axis=1), y, np.array([1.0, base]))
    if slope < _LEAST_SLOPE:  # the intercept of a slope that does not apply would miss the base rate
        slope, intercept = _LEAST_SLOPE, base
    return Calibrator("platt", a=slope / spread, b=intercept - slope / spread * centre)


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[Any]) -> Calibrator:
    """Maximum-likelihood T of sigmoid(x / T) (Guo et al. 2017): Platt's map with a = 1/T and b = 0; the same for x and for any c·x, c > 0.

    It changes how sure a member is and not how often it says yes, so it cannot undo a changed prior: 0 stays one half. Ridge and least
    slope are those of `fit_platt`, per root mean square of x instead of its standard deviation.

    Args:
        logits: (n,) log-odds in any unit; NaN rows are left out.
        labels: (n,) 0 or 1.

    Raises:
        ValueError: no scored row, only one class among them, a label that is neither 0 nor 1, or an infinite score.
    """
    x, y = _both_classes(*_scored(logits, labels))
    spread = float(np.sqrt((x**2).mean())) or 1.0
    (slope,) = _newton((x / spread)[:, None], y, np.array([1.0]))
    return Calibrator("platt", a=max(slope, _LEAST_SLOPE) / spread, b=0.0)


def fit_isotonic(logits: NDArray[np.float64], labels: NDArray[Any]) -> Calibrator:
    """Pool-adjacent-violators on (log-odds, label); needs more rows than Platt, assumes less.

    Args:
        logits: (n,) scores of any scale; NaN rows are left out.
        labels: (n,) 0 or 1.

    Raises:
        ValueError: no scored row, a label that is neither 0 nor 1, or an infinite score.
    """
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(out_of_bounds="clip").fit(*_scored(logits, labels))
    return Calibrator("isotonic", x=tuple(map(float, model.X_thresholds_)), y=tuple(map(float, model.y_thresholds_)))


CALIBRATORS = {"platt": fit_platt, "isotonic": fit_isotonic, "temperature": fit_temperature}
"""By name, for the search."""


def _scored(logits: NDArray[np.float64], labels: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and labels of the rows that have a score."""
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"labels: need one per score, got shape {y.shape} for {x.shape}")
    wrong = ~np.isin(y, (0.0, 1.0))
    if wrong.any():
        raise ValueError(f"labels: must be 0 or 1, got {y[wrong][0]:g}")
    scored = ~np.isnan(x)
    if not scored.any():
        raise ValueError(f"logits: need at least one score, got {len(x)} rows without")
    if np.isinf(x).any():
        raise ValueError("logits: must be finite, or NaN where a row has no score")
    return x[scored], y[scored]


def _both_classes(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if y.min() == y.max():
        raise ValueError(f"labels: need both classes among the {len(y)} scored rows")
    return x, y


def _newton(design: NDArray[np.float64], y: NDArray[np.float64], prior: NDArray[np.float64]) -> list[float]:
    """Logistic regression of y on the (n, k) design without further intercept, by Newton's method with step halving."""
    theta = prior.copy()

    def loss(t: NDArray[np.float64]) -> float:
        z = design @ t
        return float(np.logaddexp(0.0, z).sum() - y @ z + 0.5 * _RIDGE * ((t - prior) ** 2).sum())

    for _ in range(100):
        p = sigmoid(design @ theta)
        gradient = design.T @ (p - y) + _RIDGE * (theta - prior)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + _RIDGE * np.eye(len(prior))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(theta - size * step) > loss(theta) and size > 1e-6:
            size /= 2
        theta = theta - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return [float(t) for t in theta]
