"""What takes part in an auction: bids, click probabilities and group prices, checked once for every payment rule.

Knows numbers; not whose ads they are, nor what they will be charged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranking.types import FloatArray, IntArray

_EXACT = 2**53  # micros; beyond it a float64 no longer holds every whole micro, and a rounded price could pass its bid


def checked(
    bid_micros: ArrayLike, probabilities: ArrayLike, prices: ArrayLike | None, reserve_micros: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """(n,) bids, probabilities and group prices (0 where none are given) that an auction can work with.

    Raises:
        ValueError: naming the argument: bids that are not whole micros, or below the reserve; a probability outside [0, 1]; a group
            price that is not finite; a negative reserve; lengths that differ.
    """
    bids, p = np.asarray(bid_micros), np.asarray(probabilities, np.float64)
    if bids.ndim != 1 or not (np.isfinite(bids) & (bids == np.floor(bids)) & (np.abs(bids) <= _EXACT)).all():
        raise ValueError(f"bid_micros: must be one list of whole micros within ±2**53, got {bids.tolist()!r:.80}")
    if p.shape != bids.shape:
        raise ValueError(f"probabilities: need one per bid ({len(bids)}), got shape {p.shape}")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("probabilities: must be within [0, 1]")
    extra = np.zeros(len(bids)) if prices is None else np.asarray(prices, np.float64)
    if extra.shape != bids.shape:
        raise ValueError(f"prices: need one per bid ({len(bids)}), got shape {extra.shape}")
    if not np.isfinite(extra).all():
        raise ValueError("prices: must be finite")
    if reserve_micros < 0:
        raise ValueError(f"reserve_micros: must not be negative, got {reserve_micros}")
    if (bids < reserve_micros).any():
        raise ValueError(f"bid_micros: every bid must reach the reserve of {reserve_micros}, got {bids.min()}")
    return bids.astype(np.int64, copy=False), p, extra


def checked_order(order: NDArray[Any], n: int) -> IntArray:
    """(k,) distinct indices into n candidates.

    Raises:
        ValueError: naming `order`.
    """
    shown = np.asarray(order, np.int64)
    inside = shown.ndim == 1 and not ((shown < 0) | (shown >= n)).any()
    if not inside or np.bincount(shown, minlength=n).max(initial=0) > 1:
        raise ValueError(f"order: must be distinct indices of the {n} candidates, got {shown.tolist()!r:.80}")
    return shown
