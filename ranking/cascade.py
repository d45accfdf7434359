"""The candidate budget: an expensive member reads only the candidates that the cheap ones put first, and what becomes of the others.

The rule: a candidate beyond the budget keeps the cheap members' log-odds, all of them lowered together by the least amount that leaves none
above the last of those within. So the list stands as those within by all members, then those beyond by the cheap ones: nobody passes a
candidate that was read by not having been read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import logit, sigmoid
from ranking.types import FloatArray

Mask = NDArray[np.bool_]


def within(cheap: FloatArray, budget: int, retrieval: FloatArray | None = None) -> Mask:
    """(n,) the `budget` candidates of the highest score; ties in input order, and candidates without a score last.

    Args:
        cheap: (n,) what the cheap members say, NaN where they say nothing.
        budget: at least 1.
        retrieval: (n,) orders candidates without a score among themselves; None: input order.
    """
    tie = np.zeros(len(cheap)) if retrieval is None else np.where(np.isnan(cheap), -retrieval, 0.0)
    order = np.lexsort((np.arange(len(cheap)), tie, np.where(np.isnan(cheap), np.inf, -cheap)))
    out = np.zeros(len(cheap), np.bool_)
    out[order[:budget]] = True
    return out


def continued(probabilities: FloatArray, chosen: Mask) -> FloatArray:
    """(n,) the probabilities with those beyond the budget lowered as the rule says; NaN stays NaN, and stands above nobody.

    Args:
        probabilities: (n,) blended: within the budget of all members, beyond it of the cheap ones.
        chosen: (n,) from `within`.
    """
    inside, beyond = probabilities[chosen], probabilities[~chosen]
    if np.isnan(inside).all() or np.isnan(beyond).all() or np.nanmax(beyond) < np.nanmin(inside):
        return probabilities
    last, first = np.nanmin(inside), np.nanmax(beyond)
    out = probabilities.copy()
    below = np.nextafter(last, 0.0)  # on a tie the one that came first would stand first
    low, high = logit(np.array([last, first]))
    lowered = np.minimum(sigmoid(logit(beyond) - (high - low)), beyond)  # on a tie nothing is lowered, and rounding must not raise it
    out[~chosen] = np.minimum(lowered, below)
    return out
