"""The best factors of a score matrix too large to write down: randomised SVD over its products. Knows no purchases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.discovery.types import Factors

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

Matrix = NDArray[np.float32]

_OVERSAMPLING = 16
_POWER_ITERATIONS = 3
_NOTHING = 1e-5
"""Singular values below this share of the first are float32 noise."""


def low_rank(scores: LinearOperator | Any, width: int, seed: int) -> Factors:
    """Factor a (U, I) matrix so that `users @ items.T` is its truncated SVD, by randomised subspace iteration.

    Halko, Martinsson and Tropp, "Finding structure with randomness" (2011), algorithms 4.4 and 5.1. The spectrum of purchases falls
    slowly, so the sketch is wider than the factors and passes over the matrix a few times.

    Args:
        scores: (U, I) anything with `shape`, `@` and `.T`: an array, a sparse matrix, a linear operator.
        width: columns of the factors; those beyond the matrix's rank are 0.
        seed: of the Gaussian sketch.

    Returns:
        Factors with the singular values in `users`, and orthonormal columns in `items`. O((U + I) (width + 16)^2) beside eight products.
    """
    rows, columns = scores.shape
    sketch = min(width + _OVERSAMPLING, rows, columns)
    random = np.random.default_rng(seed).standard_normal((columns, sketch)).astype(np.float32)
    basis = np.linalg.qr(scores @ random)[0]
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(scores @ (scores.T @ basis))[0]
    projected = scores.T @ basis  # (I, k): few columns, so its SVD comes from the small (k, k) Gram matrix
    squares, turns = np.linalg.eigh(projected.T.astype(np.float64) @ projected)
    kept = min(width, sketch)
    values = np.sqrt(np.maximum(squares[::-1][:kept], 0))  # eigh sorts upwards
    turns = turns[:, ::-1][:, :kept].astype(np.float32)
    real = values > values[0] * _NOTHING
    users, items = np.zeros((rows, width), np.float32), np.zeros((columns, width), np.float32)
    users[:, :kept] = basis @ (turns * (values * real).astype(np.float32))
    items[:, :kept] = projected @ (turns * np.where(real, 1 / np.where(real, values, 1), 0).astype(np.float32))
    return Factors(users, items)


def product(shape: tuple[int, int], forward: Callable[[Matrix], Matrix], backward: Callable[[Matrix], Matrix]) -> LinearOperator:
    """A (U, I) matrix known by what it makes of (I, k) float32 columns, and its transpose of (U, k) ones."""
    from scipy.sparse.linalg import LinearOperator

    return LinearOperator(shape, matvec=forward, rmatvec=backward, matmat=forward, rmatmat=backward, dtype=np.float32)
