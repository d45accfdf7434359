"""Fitting calibrators on untouched validation lists; what is fitted is applied by `ranking.calibrate`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import Calibrator, logit, sigmoid

_RIDGE = 1e-3  # keeps a and b finite where a member separates the classes
_LEAST_SLOPE = 1e-3  # a calibrator must not turn an order around: a member worse than chance becomes nearly flat


def fit_platt(logits: NDArray[np.float64], labels: NDArray[Any]) -> Calibrator:
    """Maximum-likelihood a, b of sigmoid(a·x + b), by Newton's method, ridge towards a = 1, b = 0 (Platt 1999).

    Args:
        logits: (n,) log-odds; NaN rows are left out.
        labels: (n,) 0 or 1.

    Raises:
        ValueError: no scored row, or only one class among them.
    """
    x, y = _scored(logits, labels)
    a, b = _newton(np.stack([x, np.ones_like(x)], axis=1), y, np.array([1.0, 0.0]))
    if a < _LEAST_SLOPE:  # the intercept of a slope that does not apply would miss the base rate
        a, b = _LEAST_SLOPE, float(logit(np.array([y.mean()]))[0] - _LEAST_SLOPE * x.mean())
    return Calibrator("platt", a=a, b=b)


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[Any]) -> Calibrator:
    """Maximum-likelihood T of sigmoid(x / T), ridge towards T = 1 (Guo et al. 2017): Platt's map with a = 1/T and b = 0.

    It changes how sure a member is and not how often it says yes, so it cannot undo a changed prior.

    Args:
        logits: (n,) log-odds; NaN rows are left out.
        labels: (n,) 0 or 1.

    Raises:
        ValueError: no scored row, or only one class among them.
    """
    x, y = _scored(logits, labels)
    (slope,) = _newton(x[:, None], y, np.array([1.0]))
    return Calibrator("platt", a=max(slope, _LEAST_SLOPE), b=0.0)


def fit_isotonic(logits: NDArray[np.float64], labels: NDArray[Any]) -> Calibrator:
    """Pool-adjacent-violators on (log-odds, label); needs more rows than Platt, assumes less."""
    from sklearn.isotonic import IsotonicRegression

    scored = ~np.isnan(logits)
    model = IsotonicRegression(out_of_bounds="clip").fit(logits[scored], np.asarray(labels)[scored])
    return Calibrator("isotonic", x=tuple(map(float, model.X_thresholds_)), y=tuple(map(float, model.y_thresholds_)))


CALIBRATORS = {"platt": fit_platt, "isotonic": fit_isotonic, "temperature": fit_temperature}
"""By name, for the search."""


def _scored(logits: NDArray[np.float64], labels: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scored = ~np.isnan(logits)
    x, y = logits[scored], np.asarray(labels)[scored].astype(np.float64)
    if len(y) == 0 or y.min() == y.max():
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
