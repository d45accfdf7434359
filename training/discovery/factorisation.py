"""Factors fitted directly, by a library: weighted matrix factorisation. Knows no baskets and no ages."""

from __future__ import annotations

import numpy as np

from training.discovery.types import Factors, Purchases

CONFIDENCE, RIDGE, SWEEPS = 10.0, 5.0, 5
"""Weight of a purchase over a non-purchase, ridge, and alternations: first purchases of the next week among the best 100 of the whole
catalogue are .067, .075, .076, .076 and .076 of all after 2, 4, 5, 8 and 15 (Complete Journey, before weeks 41, 43 and 45)."""


def als(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """Weighted matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008, equation 3)."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    columns = np.unique(purchases.common.indices)  # rare items, half of all, would be solved for nothing
    with threadpool_limits(1, "blas"):  # the library threads over rows; a threaded BLAS beneath it is slower, and it warns
        model = AlternatingLeastSquares(
            factors=width,
            alpha=CONFIDENCE,
            regularization=RIDGE,
            iterations=SWEEPS,
            num_threads=0,  # all cores: each row is solved on its own, so their number changes no bit
            random_state=seed,
        )
        model.fit(purchases.common[:, columns], show_progress=False)
    items = np.zeros((purchases.shape[1], width), np.float32)
    items[columns] = model.item_factors
    return Factors(np.array(model.user_factors, np.float32), items)
