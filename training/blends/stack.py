"""Stacking: a logistic regression over members' log-odds decides what each counts (Wolpert 1992; Breiman 1996 for weights ≥ 0).

It must be given scores that were made out of fold: a member's scores of rows it was trained on look better than they are, and the
regression would trust whoever remembers best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import sigmoid

_RIDGE = 1e-3  # towards equal weights: keeps members that say the same from taking arbitrary shares
_LEAST_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class Stacked:
    """sigmoid(slope · Σ w_m z_m / Σ w_m + intercept)."""

    weights: tuple[float, ...]  # ≥ 0, sum 1
    slope: float  # > 0
    intercept: float


def fit(log_odds: NDArray[np.float64], labels: NDArray[Any]) -> Stacked:
    """Maximum likelihood of sigmoid(Σ w_m z_m + b) with all w ≥ 0.

    Args:
        log_odds: (m, n) calibrated and out of fold; where a member could not score, the mean of those that could stands in for it, and rows
            nobody scored are left out.
        labels: (n,) 0 or 1.

    Raises:
        ValueError: only one class among the scored rows.
    """
    from scipy.optimize import minimize

    scored = ~np.isnan(log_odds).all(axis=0)
    z, y = filled(log_odds[:, scored]), np.asarray(labels)[scored].astype(np.float64)
    if len(y) == 0 or y.min() == y.max():
        raise ValueError(f"labels: need both classes among the {len(y)} scored rows")
    m, n = z.shape
    even = np.append(np.full(m, 1.0 / m), 0.0)

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        pool, away = theta[:m] @ z + theta[m], theta - even
        value = (np.logaddexp(0.0, pool).sum() - y @ pool) / n + 0.5 * _RIDGE * (away[:m] @ away[:m])
        error = (sigmoid(pool) - y) / n
        return float(value), np.append(z @ error + _RIDGE * away[:m], error.sum())

    found = minimize(loss, even, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * m + [(None, None)], options={"maxiter": 500})
    weights, total = found.x[:m], float(found.x[:m].sum())
    if total < _LEAST_SLOPE:  # nobody says anything: all the same, and nearly flat
        return Stacked(tuple(even[:m].tolist()), _LEAST_SLOPE, float(found.x[m]))
    return Stacked(tuple((weights / total).tolist()), total, float(found.x[m]))


def filled(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, n) with the mean of the members that scored a row in place of those that could not; each row has at least one."""
    absent = np.isnan(log_odds)
    if not absent.any():
        return log_odds
    return np.where(absent, np.nanmean(log_odds, axis=0), log_odds)
