"""What another ranker would have earned, from what was logged under the one that ran.

All take (n,) logged rewards and (n,) importance weights π(action) / μ(action). They are worth as much as the weights are even: where the
effective sample size is below `least`, there is no estimate but an error (Swaminathan and Joachims 2015; Dudík et al. 2011).
"""

from __future__ import annotations

import numpy as np

from ranking.metrics.arrays import as_weights, known, same_length
from ranking.types import FloatArray

LEAST = 100.0  # effective rows; with fewer a single click moves the estimate by a percent of the scale or more


class TooFewEffectiveRows(ValueError):  # noqa: N818 (reads as what happened, like the errors of `ranking.errors`)
    """The weights put nearly all on a few rows.

    Attributes:
        size: the effective sample size there is.
        least: what was asked for.
    """

    def __init__(self, size: float, least: float, rows: int) -> None:
        super().__init__(f"weights: {rows} rows are worth {size:.1f} under the other policy, fewer than {least:g}: no estimate")
        self.size = size
        self.least = least


def importance_weights(target: FloatArray, logging: FloatArray) -> FloatArray:
    """(n,) π / μ of the logged actions.

    Raises:
        ValueError: a logged action that the logging policy never takes, or a chance outside [0, 1].
    """
    pi, mu = np.asarray(target, np.float64), np.asarray(logging, np.float64)
    same_length("logging", pi, mu)
    if not ((mu > 0.0) & (mu <= 1.0)).all():
        raise ValueError("logging: chances of what was done must be in (0, 1]")
    if not ((pi >= 0.0) & (pi <= 1.0)).all():
        raise ValueError("target: chances must be in [0, 1]")
    return pi / mu


def effective_sample_size(weights: FloatArray) -> float:
    """(Σ w)² / Σ w² (Kish 1965): n for equal weights, 1 where one row has all; 0 without weight.

    Raises:
        ValueError: a weight that is negative or not finite.
    """
    w = as_weights("weights", weights)
    square = float(w @ w)
    return float(w.sum()) ** 2 / square if square else 0.0


def ips(rewards: FloatArray, weights: FloatArray, *, least: float = LEAST) -> float:
    """Inverse propensity score, mean(w r): unbiased where μ > 0 wherever π > 0.

    Raises:
        TooFewEffectiveRows: the effective sample size is below `least`.
    """
    r, w = _checked(rewards, weights, least)
    return float(w @ r) / len(r)


def snips(rewards: FloatArray, weights: FloatArray, *, least: float = LEAST) -> float:
    """Self-normalised, Σ w r / Σ w: within the range of the rewards, slightly biased, less noisy.

    Raises:
        TooFewEffectiveRows: the effective sample size is below `least`.
    """
    r, w = _checked(rewards, weights, least)
    return float(w @ r) / float(w.sum())


def doubly_robust(
    rewards: FloatArray, weights: FloatArray, expected_logged: FloatArray, expected_target: FloatArray, *, least: float = LEAST
) -> float:
    """mean(v + w (r - q)): unbiased if either the weights or the reward model are right (Dudík et al. 2011, eq. 3).

    Args:
        rewards: (n,).
        weights: (n,).
        expected_logged: (n,) q, the model's reward of the logged action.
        expected_target: (n,) v, the model's reward averaged over the actions of the target policy.
        least: effective rows asked for.

    Raises:
        TooFewEffectiveRows: the effective sample size is below `least`.
    """
    r, w = _checked(rewards, weights, least)
    q, v = np.asarray(expected_logged, np.float64), np.asarray(expected_target, np.float64)
    same_length("expected_logged", r, q)
    same_length("expected_target", r, v)
    return float((v + w * (r - q)).mean())


def _checked(rewards: FloatArray, weights: FloatArray, least: float) -> tuple[FloatArray, FloatArray]:
    r, w = np.asarray(known("rewards", rewards), np.float64), as_weights("weights", weights)
    same_length("weights", r, w)
    size = effective_sample_size(w)
    if size < least or not size:
        raise TooFewEffectiveRows(size, least, len(w))
    return r, w
