"""Linear methods on the matrix of users and items: its truncated SVD, and EASE^R. Knows no baskets and no ages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.discovery.low_rank import low_rank, product
from training.discovery.types import RARE, Factors, Purchases

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import LinearOperator

EASE_RIDGE = 400.0
"""λ of EASE^R, in buyers: an item needs about as many before its ties count in full."""


def profiles(purchases: Purchases) -> csr_matrix:
    """(U, I) float32 rows of length 1 (0 for users without purchases): log(1 + count) times log(U / buyers), rare items left out."""
    from scipy.sparse import diags

    buyers = purchases.buyers
    rarity = np.where(buyers >= RARE, np.log(purchases.shape[0] / np.maximum(buyers, 1)), 0)
    counts = purchases.matrix()
    counts.data = np.log1p(counts.data)
    weighted = counts @ diags(rarity.astype(np.float32))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return (diags((1 / np.maximum(length, 1e-6)).astype(np.float32)) @ weighted).tocsr()


def svd(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """Truncated SVD of the users' profiles: pure SVD (Cremonesi, Koren and Turrin, RecSys 2010)."""
    return low_rank(profiles(purchases), width, seed)


def dual(bought: csr_matrix, ridge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What EASE^R needs of X, found over users instead of items.

    With P = (X'X + λ)^-1 and M = (XX' + λ)^-1, the push-through identity gives XP = MX and P = (1 - X'MX) / λ.

    Args:
        bought: (U, I) X.
        ridge: λ > 0.

    Returns:
        M (U, U) and the diagonal of P (I,). O(U^3 + nnz U) instead of O(I^3).
    """
    inverse = np.linalg.inv((bought @ bought.T).toarray().astype(np.float64) + ridge * np.eye(bought.shape[0]))
    columns = bought.tocsc()
    spread = np.empty(bought.shape[1])
    for j, (start, end) in enumerate(zip(columns.indptr[:-1], columns.indptr[1:], strict=True)):
        buyers, values = columns.indices[start:end], columns.data[start:end]
        spread[j] = values @ inverse[np.ix_(buyers, buyers)] @ values
    return inverse, (1 - spread) / ridge


def ease_scores(bought: csr_matrix, ridge: float) -> LinearOperator:
    """(U, I) EASE^R's scores (Steck, WWW 2019, equation 8): XB with B = 1 - P / diag P, so X - MX / diag P."""
    inverse, diagonal = dual(bought, ridge)
    inverse, scale = inverse.astype(np.float32), (1 / diagonal).astype(np.float32)[:, None]

    def forward(y: NDArray[np.float32]) -> NDArray[np.float32]:
        y = y.reshape(bought.shape[1], -1)
        return bought @ y - inverse @ (bought @ (scale * y))

    def backward(y: NDArray[np.float32]) -> NDArray[np.float32]:
        y = y.reshape(bought.shape[0], -1)
        return bought.T @ y - scale * (bought.T @ (inverse @ y))

    return product(bought.shape, forward, backward)


def ease(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """Best factors of EASE^R's scores; its (I, I) weights are never written down."""
    return low_rank(ease_scores(purchases.common, EASE_RIDGE), width, seed)
