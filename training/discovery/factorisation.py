"""Factors fitted directly, by a library: weighted matrix factorisation. Knows no baskets and no ages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.discovery.types import Factors, Purchases

CONFIDENCE, RIDGE, SWEEPS = 10.0, 5.0, 5
"""Weight of a purchase over a non-purchase, ridge, and alternations: first purchases of the next week among the best 100 of the whole
catalogue are .067, .075, .076, .076 and .076 of all after 2, 4, 5, 8 and 15 (Complete Journey, before weeks 41, 43 and 45)."""
SWEEPS_ON = 1
"""Alternations where factors of a week before are gone on from. A chain of them from week 27 finds as many first purchases as factors found
anew, at a fifth of the work: .0662 against .0667 over seven weeks from 30 to 53, and .0660 with 2 a week."""
_SMALL = 0.01  # the largest coordinate of a row that begins anywhere; the library's own


def als(purchases: Purchases, *, width: int, seed: int, start: Factors | None = None) -> Factors:
    """Weighted matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008, equation 3).

    Args:
        purchases: of shape (U, I).
        width: columns of the factors.
        seed: of the rows that begin anywhere.
        start: factors of the same shape and width to go on from; rows that are all 0 begin anywhere. None: all do.
    """
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    columns = np.flatnonzero(
        np.bincount(purchases.common.indices, minlength=purchases.shape[1])
    )  # rare items, half of all, would be solved for nothing
    with threadpool_limits(1, "blas"):  # the library threads over rows; a threaded BLAS beneath it is slower, and it warns
        model = AlternatingLeastSquares(
            factors=width,
            alpha=CONFIDENCE,
            regularization=RIDGE,
            iterations=SWEEPS if start is None else SWEEPS_ON,
            num_threads=0,  # all cores: each row is solved on its own, so their number changes no bit
            random_state=seed,
        )
        if start is not None:
            random = np.random.default_rng(seed)
            model.user_factors = _begun(start.users, random)
            model.item_factors = _begun(start.items[columns], random)
        model.fit(purchases.common[:, columns], show_progress=False)
    items = np.zeros((purchases.shape[1], width), np.float32)
    items[columns] = model.item_factors
    return Factors(np.array(model.user_factors, np.float32), items)


def _begun(rows: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """A copy whose rows of zeros are drawn: zeros would stay zeros."""
    drawn = random.random(rows.shape, np.float32) * np.float32(_SMALL)
    return np.where(rows.any(axis=1, keepdims=True), rows, drawn)
