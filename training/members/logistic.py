"""Logistic regression: the member whose weights can be read."""

from __future__ import annotations

import numpy as np

from training.members.contract import Rows
from training.members.dense import Dense
from training.members.scaling import Scale


def logistic(rows: Rows, *, seed: int, threads: int, strength: float = 1.0) -> Dense:
    """Ridge-penalised maximum likelihood on scaled, median-imputed columns.

    Args:
        rows: training rows.
        seed: changes nothing; the optimum is unique.
        threads: changes nothing.
        strength: inverse of the ridge (scikit-learn's C), above 0.
    """
    from sklearn.linear_model import LogisticRegression

    if strength <= 0:
        raise ValueError(f"logistic.strength: must be above 0, got {strength}")
    scale = Scale.of(rows.features)
    model = LogisticRegression(C=strength, solver="newton-cholesky", max_iter=200)  # many rows, few columns
    model.fit(scale(rows.features).astype(np.float64), rows.labels, sample_weight=rows.weights.astype(np.float64))
    return Dense(scale, ((model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)),), log_odds=True)
