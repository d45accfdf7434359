"""How much a user cares for an item by what they had before: likeness, rating and recency of the history."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INTEREST_HALF_LIFE_DAYS = 56.0  # after which an item of a user's history counts half in `interest`


def recency_weights(days: NDArray[Any]) -> NDArray[np.float64]:
    """The α of `interest`, (h,): halved every `INTEREST_HALF_LIFE_DAYS`, of sum 1; empty for no history.

    Args:
        days: (h,) days since each item of the history, none negative.
    """
    faded = np.power(0.5, (days - np.min(days, initial=np.inf)) / INTEREST_HALF_LIFE_DAYS)  # from the latest: years must not vanish
    return np.asarray(faded / faded.sum())


def cosines(history: NDArray[Any], items: NDArray[Any]) -> NDArray[np.float64]:
    """Similarities, (h, n), of (h, w) and (n, w) vectors; 0 where one of the two is all zeros, which is what nothing known means.

    Raises:
        ValueError: the vectors are not of one width.
    """
    if history.shape[1:] != items.shape[1:]:
        raise ValueError(f"items: must be vectors of width {history.shape[1:]} as the history's, got {items.shape[1:]}")
    lengths = np.outer(np.linalg.norm(history, axis=1), np.linalg.norm(items, axis=1))
    return np.asarray(np.divide(history @ items.T, lengths, out=np.zeros(lengths.shape), where=lengths > 0))


def interest(weights: NDArray[Any], similarities: NDArray[Any], ratings: NDArray[Any]) -> NDArray[np.float64]:
    """How much a user cares for items by what they had before, (n,): p_ui = Σ_k α_k · similarity(history_k, i) · rating_k. O(h n).

    Args:
        weights: (h,) α, e.g. `recency_weights`.
        similarities: (h, n) of each item of the history with each candidate, e.g. `cosines`.
        ratings: (h,) what the user made of each: stars, or `history_counts`.

    Returns:
        0 for every candidate where there is no history.

    Raises:
        ValueError: an argument's shape does not go with the others.
    """
    if similarities.ndim != 2:
        raise ValueError(f"similarities: must have two dimensions, got {similarities.ndim}")
    for name, found in (("weights", weights), ("ratings", ratings)):
        if found.shape != similarities.shape[:1]:
            raise ValueError(f"{name}: must be of shape {similarities.shape[:1]}, one for each row of similarities, got {found.shape}")
    return np.asarray((weights.astype(np.float64) * ratings) @ similarities)
