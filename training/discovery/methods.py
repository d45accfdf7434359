"""Every discovery method by name, behind one call. Knows no formula."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.discovery import factorisation, item2vec, neighbours, spectral
from training.discovery.types import Factors, Purchases


class Method(Protocol):
    def __call__(self, purchases: Purchases, *, width: int, seed: int) -> Factors: ...


_METHODS: dict[str, Method] = {
    "als": factorisation.als,
    "user_knn": neighbours.user_knn,
    "svd": spectral.svd,
    "item2vec": item2vec.item2vec,
    "ease": spectral.ease,
    "sequence": neighbours.sequence,
    "co_purchase": neighbours.co_purchase,
}

METHODS: tuple[str, ...] = tuple(_METHODS)
"""By name, the one that the feature tables use first (`training.tables.taste`): `als` finds the most first purchases per column.

Recall@50 among the promoted products a household never bought, ranked by the dot product alone (Complete Journey, validation weeks
41-46, all candidates of 600 household-weeks, ± .016 each): `als` .226 at width 48 (.216 at 32, .208 at 64 and at 128), `user_knn`
.209 at 32, `svd` .194 at 32, `sequence` .187 at 48. Paired, `als` at 48 gains .032 [.006, .058] over `svd` at 32.
On other lists of those weeks `ease` found .018 ± .008 more than `als` (seeds of `als` differ by .010); it takes ten times as long.
"""


def factorise(
    name: str,
    users: NDArray[np.integer],
    items: NDArray[np.integer],
    ages: NDArray[np.floating],
    *,
    shape: tuple[int, int],
    width: int,
    seed: int,
) -> Factors:
    """Learn from purchase lines how much each user would like each item; deterministic by seed.

    Args:
        name: one of `METHODS`.
        users: (n,) codes in [0, U).
        items: (n,) codes in [0, I).
        ages: (n,) weeks between the line and the snapshot, > 0; lines of one user at one age are one basket.
        shape: (U, I).
        width: columns of the factors, ≥ 1.
        seed: of whatever the method draws.

    Raises:
        ValueError: the name is unknown, the width is below 1, the arrays differ in length, or an age is not positive.
    """
    if name not in _METHODS:
        raise ValueError(f"unknown discovery method {name!r}, expected one of {', '.join(METHODS)}")
    if width < 1:
        raise ValueError(f"width: must be at least 1, got {width}")
    if not len(users) == len(items) == len(ages):
        raise ValueError(f"one user, item and age per line, got {len(users)}, {len(items)} and {len(ages)}")
    if not np.all(np.asarray(ages) > 0):
        raise ValueError("ages must be positive: a purchase at or after the snapshot would leak")
    if not len(users):
        return Factors(np.zeros((shape[0], width), np.float32), np.zeros((shape[1], width), np.float32))
    purchases = Purchases(np.asarray(users, np.int64), np.asarray(items, np.int64), np.asarray(ages, np.float64), shape)
    factors = _METHODS[name](purchases, width=width, seed=seed)
    factors.users[np.bincount(purchases.users, minlength=shape[0]) == 0] = 0
    return factors
