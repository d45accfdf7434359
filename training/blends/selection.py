"""Ensemble selection: members are added one after the other, the same again where that helps most (Caruana et al. 2004)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.blends.stack import filled

STEPS = 50


def forward(log_odds: NDArray[np.float64], labels: NDArray[Any], *, steps: int = STEPS) -> tuple[float, ...]:
    """Forward selection with replacement by log loss of the mean log-odds; the best of all the ensembles on the way is kept.

    Args:
        log_odds: (m, n) calibrated; where a member could not score, the mean of those that could stands in for it, and rows nobody
            scored are left out.
        labels: (n,) 0 or 1.
        steps: members added at most, repeats counted. O(m · n · steps).

    Returns:
        (m,) how often each was chosen, as shares of the whole; equally good members: the earlier one.

    Raises:
        ValueError: fewer than one step, or no scored row.
    """
    if steps < 1:
        raise ValueError(f"caruana_steps: must be at least 1, got {steps}")
    scored = ~np.isnan(log_odds).all(axis=0)
    z, y = filled(log_odds[:, scored]), np.asarray(labels)[scored].astype(np.float64)
    if not len(y):
        raise ValueError("log_odds: no row has a score")
    total, counts = np.zeros(z.shape[1]), np.zeros(len(z))
    best, kept = np.inf, counts
    for step in range(1, steps + 1):
        pools = (total + z) / step  # (m, n)
        losses = np.logaddexp(0.0, pools).mean(axis=1) - (pools * y).mean(axis=1)
        chosen = int(losses.argmin())
        total = total + z[chosen]
        counts[chosen] += 1
        if losses[chosen] < best - 1e-12:
            best, kept = float(losses[chosen]), counts.copy()
    return tuple((kept / kept.sum()).tolist())
