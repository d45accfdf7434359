"""How groups share the places of one list and of its prefixes (Geyik, Ambler, Kenthapadi, KDD 2019, section 3.2).

All are called alike, `metric(shown, shares)`: (k,) group codes from the first place on, and (g,) the shares they are held against; a
code without a share is refused. They see no scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.fairness.floors import GUARD
from ranking.metrics.arrays import group_codes
from ranking.types import FloatArray


def skew(shown: NDArray[Any], shares: FloatArray) -> FloatArray:
    """(g,) ln(share of the places / share wanted): 0 is as wanted, -inf not shown at all, NaN for a group nothing is wanted of."""
    wanted = np.asarray(shares, np.float64)
    got = np.bincount(group_codes(shown, len(wanted)), minlength=len(wanted)) / max(len(shown), 1)
    with np.errstate(divide="ignore"):
        out: FloatArray = np.log(np.divide(got, wanted, out=np.full(len(wanted), np.nan), where=wanted > 0.0))
    return out


def min_skew(shown: NDArray[Any], shares: FloatArray) -> float:
    """Skew of the group worst off."""
    return float(np.nanmin(skew(shown, shares)))


def max_skew(shown: NDArray[Any], shares: FloatArray) -> float:
    """Skew of the group best off."""
    return float(np.nanmax(skew(shown, shares)))


def ndkl(shown: NDArray[Any], shares: FloatArray) -> float:
    """Discounted mean over all prefixes of KL(mix of the prefix ‖ shares), weights 1 / log2(length + 1); 0 is best.

    Raises:
        ValueError: the shares are no distribution, the list is empty, or a code has no share.
    """
    wanted = np.asarray(shares, np.float64)
    if not abs(float(wanted.sum()) - 1.0) <= 1e-6 or not len(shown):  # NaN is no distribution either
        raise ValueError(f"ndkl: needs shares that sum to 1 and a list, got {wanted.sum():g} and {len(shown)} places")
    mix = _counts(shown, len(wanted)) / np.arange(1, len(shown) + 1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 ln 0 = 0; a group that should not be shown at all is infinitely far off
        divergence = np.where(mix > 0.0, mix * np.log(mix / wanted), 0.0).sum(axis=1)
    weights = discounts(len(shown))
    return float(divergence @ weights / weights.sum())


def infeasible_index(shown: NDArray[Any], shares: FloatArray) -> int:
    """How many prefixes hold fewer than floor(length · share) of some group.

    Raises:
        ValueError: a code has no share.
    """
    wanted = np.asarray(shares, np.float64)
    least = np.floor(np.outer(np.arange(1, len(shown) + 1), wanted) + GUARD)
    return int((_counts(shown, len(wanted)) < least).any(axis=1).sum())


def _counts(shown: NDArray[Any], g: int) -> NDArray[np.int64]:
    """(k, g) how many of each group the first 1 … k places hold."""
    return np.cumsum(group_codes(shown, g)[:, None] == np.arange(g), axis=0)
