"""Item vectors from baskets, as word vectors come from sentences. Knows no users until the vectors stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.discovery.low_rank import low_rank
from training.discovery.types import RARE, Factors, Purchases

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PAIRS = 2
"""Baskets that must hold two items before the pair counts: most pairs meet once, by chance, and they are most of the work."""


def item2vec(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """Item2vec (Barkan and Koenigstein, 2016) at its optimum instead of by sampling.

    Skip-gram with negative sampling factorises the items' pointwise mutual information (Levy and Goldberg, NIPS 2014);
    the truncated SVD of its positive part does so exactly, without order, epochs or threads. A user is the sum of what was bought.
    """
    vectors = low_rank(information(purchases), width, seed)
    return Factors(purchases.common @ vectors.users, vectors.items)


def information(purchases: Purchases) -> csr_matrix:
    """(I, I) float32 positive pointwise mutual information of two items meeting in a basket; 0 for an item with itself."""
    from scipy.sparse import csr_matrix

    common = purchases.buyers[purchases.items] >= RARE
    size = (purchases.baskets.max() + 1, purchases.shape[1])
    lines = csr_matrix((np.ones(common.sum(), np.float32), (purchases.baskets[common], purchases.items[common])), size)
    lines.data[:] = 1
    pairs = (lines.T @ lines).tocoo()
    kept = (pairs.row != pairs.col) & (pairs.data >= PAIRS)
    row, column, together = pairs.row[kept], pairs.col[kept], pairs.data[kept].astype(np.float64)
    alone = np.bincount(row, together, purchases.shape[1])
    mutual = np.log(together * together.sum() / (alone[row] * alone[column]))
    positive = mutual > 0
    return csr_matrix((mutual[positive].astype(np.float32), (row[positive], column[positive])), (len(alone), len(alone)))
