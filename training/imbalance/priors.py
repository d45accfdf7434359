"""What a change of the positives' share does to probabilities, and its exact undoing, both ways.

All forms are one shift of the log-odds: sampling negatives at rate w adds −ln w. Holds where rows were kept at random within their
class; for made-up rows it does not, and a calibrator must follow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import undo_negative_sampling

Array = NDArray[np.float64]


def to_sampled(probabilities: Array, keep_rate: float) -> Array:
    """What a probability becomes when each negative is kept with probability w: p / (p + w (1 − p)); He et al. 2014 turned around.

    Raises:
        ValueError: keep_rate outside (0, 1].
    """
    _rate(keep_rate)
    p = np.asarray(probabilities, np.float64)
    return p / (p + keep_rate * (1.0 - p))


def from_sampled(probabilities: Array, keep_rate: float) -> Array:
    """The true probability of a sampled one: p_s / (p_s + (1 − p_s) / w) (He et al. 2014, section 6.3)."""
    return undo_negative_sampling(probabilities, keep_rate)


def under_sampled(probabilities: Array, beta: float) -> Array:
    """Sampled p_s = p / (p + β (1 − p)) (Dal Pozzolo et al. 2015, eq. 4), with β the chance that a negative is kept.

    Raises:
        ValueError: beta outside (0, 1].
    """
    return to_sampled(probabilities, beta)


def from_under_sampled(probabilities: Array, beta: float) -> Array:
    """True p = β p_s / (β p_s − p_s + 1) (Dal Pozzolo et al. 2015, eq. 5).

    Raises:
        ValueError: beta outside (0, 1].
    """
    _rate(beta)
    p = np.asarray(probabilities, np.float64)
    return beta * p / (beta * p - p + 1.0)


def shift_prior(probabilities: Array, *, before: float, after: float) -> Array:
    """Probabilities of a model trained where the share of positives was `before`, for a population where it is `after`.

    Elkan 2001, theorem 2; Saerens et al. 2002, eq. 2.4. Up- and down-sampling and class weights are all cases of it.

    Raises:
        ValueError: a share outside (0, 1).
    """
    for name, share in (("before", before), ("after", after)):
        if not 0.0 < share < 1.0:
            raise ValueError(f"{name}: must be in (0, 1), got {share}")
    p = np.asarray(probabilities, np.float64)
    positive, negative = p * (after / before), (1.0 - p) * ((1.0 - after) / (1.0 - before))
    return positive / (positive + negative)


def _rate(rate: float) -> None:
    if not 0.0 < rate <= 1.0:
        raise ValueError(f"keep_rate: must be in (0, 1], got {rate}")
