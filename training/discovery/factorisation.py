"""Factors fitted directly, by a library: weighted matrix factorisation. Knows no baskets and no ages."""

from __future__ import annotations

import numpy as np

from training.discovery.types import Factors, Purchases

CONFIDENCE, RIDGE, SWEEPS = 10.0, 5.0, 8
"""Weight of a purchase over a non-purchase, ridge, and alternations."""


def als(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """Weighted matrix factorisation of implicit feedback by alternating least squares (Hu, Koren and Volinsky, ICDM 2008, equation 3)."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # the library threads over rows; a threaded BLAS beneath it is slower, and it warns
        model = AlternatingLeastSquares(
            factors=width, alpha=CONFIDENCE, regularization=RIDGE, iterations=SWEEPS, num_threads=1, random_state=seed
        )
        model.fit(purchases.common, show_progress=False)
    return Factors(np.array(model.user_factors, np.float32), np.array(model.item_factors, np.float32))
