"""Methods that look at what similar users, or the same baskets, hold. Knows no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.discovery.low_rank import low_rank, product
from training.discovery.spectral import profiles
from training.discovery.types import Factors, Purchases

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import LinearOperator

NEIGHBOURS = 300
GROUP = 7
"""Baskets a group, as published for grocery shopping."""
WITHIN, ACROSS = 0.9, 0.7
"""TIFU-KNN's decay from one basket to the next older one, and from group to group."""
OWN = 0.3
"""Weight of a user's own baskets beside the neighbours': low, as what the user already buys is not what is looked for."""
DAMPING = 10.0
"""Added to an item's baskets, so that a rare item's few baskets are not taken for a strong tie."""


def nearest(rows: csr_matrix, count: int) -> NDArray[np.float32]:
    """(U, U) weights of each user's `count` most similar others by the dot product of rows; each line sums to 1, or is all 0."""
    similar = (rows @ rows.T).toarray().astype(np.float32)
    np.fill_diagonal(similar, 0)
    if count < len(similar):
        similar[similar < np.partition(similar, -count, axis=1)[:, -count, None]] = 0
    total = similar.sum(axis=1, keepdims=True)
    return np.divide(similar, total, out=np.zeros_like(similar), where=total > 0)


def user_knn(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """Best factors of the share of a user's neighbours, by similarity of profiles, who ever bought the item."""
    weights, bought = nearest(profiles(purchases), NEIGHBOURS), purchases.common
    return low_rank(product(bought.shape, lambda y: weights @ (bought @ y), lambda y: bought.T @ (weights.T @ y)), width, seed)


def personal_frequency(purchases: Purchases) -> csr_matrix:
    """(U, I) float32 personalised item frequency: how often an item is in the user's baskets, the recent ones counting more.

    Hu, He, Gao and Zhang, "Modeling personalized item frequency information for next-basket recommendation" (SIGIR 2020):
    baskets decay by `WITHIN` inside groups of `GROUP`, counted from the newest basket, and groups by `ACROSS`; both are averaged.
    """
    baskets = np.bincount(purchases.users[np.unique(purchases.baskets, return_index=True)[1]], minlength=purchases.shape[0])
    newest = np.cumsum(baskets) - 1  # codes run from a user's oldest basket to the newest
    back, count = newest[purchases.users] - purchases.baskets, baskets[purchases.users]
    groups = -(-count // GROUP)
    size = np.minimum(GROUP, count - back // GROUP * GROUP)  # only the oldest group may be smaller
    weights = WITHIN ** (back % GROUP) / size * ACROSS ** (back // GROUP) / groups
    return purchases.matrix(weights)


def sequence(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """TIFU-KNN (Hu et al., SIGIR 2020): personalised frequencies, mixed with the mean of the nearest users'.

    Neighbours are found by cosine rather than distance, under which users of few baskets would all be near one another.
    """
    from scipy.sparse import diags

    own = personal_frequency(purchases)
    length = np.sqrt(np.asarray(own.multiply(own).sum(axis=1)).ravel())
    weights = nearest(diags((1 / np.maximum(length, 1e-12)).astype(np.float32)) @ own, NEIGHBOURS)
    mixed = (1 - OWN) * weights + OWN * np.eye(len(weights), dtype=np.float32)
    return low_rank(product(own.shape, lambda y: mixed @ (own @ y), lambda y: own.T @ (mixed.T @ y)), width, seed)


def co_purchase(purchases: Purchases, *, width: int, seed: int) -> Factors:
    """Best factors of the cosine of items over baskets (Sarwar et al., WWW 2001, section 3.1.1), summed over what the user bought."""
    return low_rank(co_purchase_scores(purchases), width, seed)


def co_purchase_scores(purchases: Purchases) -> LinearOperator:
    """(U, I) sums over the user's items, by log(1 + count), of their damped basket cosine with each other item.

    A pair in a small basket says more than one in a large one: each basket counts one over the root of its size.
    """
    from scipy.sparse import csr_matrix, diags

    size = (purchases.baskets.max() + 1, purchases.shape[1])
    lines = csr_matrix((np.ones(len(purchases.items), np.float32), (purchases.baskets, purchases.items)), size)
    lines.data[:] = 1
    times = np.asarray(lines.sum(axis=0)).ravel()
    sizes = np.asarray(lines.sum(axis=1)).ravel()
    scaled = (diags((sizes**-0.25).astype(np.float32)) @ lines @ diags(((times + DAMPING) ** -0.5).astype(np.float32))).tocsr()
    itself = np.asarray(scaled.multiply(scaled).sum(axis=0)).reshape(-1, 1)  # an item's tie to itself is no discovery
    taste = purchases.matrix()
    taste.data = np.log1p(taste.data)

    def forward(y: NDArray[np.float32]) -> NDArray[np.float32]:
        y = y.reshape(purchases.shape[1], -1)
        return taste @ (scaled.T @ (scaled @ y) - itself * y)

    def backward(y: NDArray[np.float32]) -> NDArray[np.float32]:
        liked = taste.T @ y.reshape(purchases.shape[0], -1)
        return scaled.T @ (scaled @ liked) - itself * liked

    return product(purchases.shape, forward, backward)
