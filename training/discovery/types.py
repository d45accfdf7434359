"""The nouns of discovery: the purchases a method sees, the factors it returns. Knows no method."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

RARE = 3
"""Items with fewer buyers say nothing about others' taste."""


@dataclass(frozen=True, slots=True)
class Factors:
    """A score for every pair of user and item, as the dot product of two rows.

    Attributes:
        users: (U, width) float32; all 0 for a user without purchases.
        items: (I, width) float32.
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]


@dataclass(frozen=True)
class Purchases:
    """Purchase lines before one moment, in any order.

    Attributes:
        users: (n,) int64 codes in [0, U).
        items: (n,) int64 codes in [0, I).
        ages: (n,) float64 weeks before the moment, > 0. Lines of one user at one age are one basket.
        shape: (U, I).
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ages: NDArray[np.float64]
    shape: tuple[int, int]

    def matrix(self, weights: NDArray[np.floating[Any]] | None = None) -> csr_matrix:
        """(U, I) float32 sums of the lines' weights; their counts without."""
        from scipy.sparse import csr_matrix

        data = np.ones(len(self.users)) if weights is None else weights
        return csr_matrix((data.astype(np.float32), (self.users, self.items)), self.shape, np.float32)

    @cached_property
    def bought(self) -> csr_matrix:
        """(U, I) float32: 1 where the user ever bought the item."""
        bought = self.matrix()
        bought.data[:] = 1
        return bought

    @cached_property
    def buyers(self) -> NDArray[np.float64]:
        """(I,) how many users bought each item."""
        return np.bincount(self.bought.indices, minlength=self.shape[1]).astype(np.float64)

    @cached_property
    def common(self) -> csr_matrix:
        """(U, I) float32: `bought` without rare items, whose columns are empty."""
        from scipy.sparse import diags

        common = (self.bought @ diags((self.buyers >= RARE).astype(np.float32))).tocsr()
        common.eliminate_zeros()
        return common

    @cached_property
    def baskets(self) -> NDArray[np.int64]:
        """(n,) the basket of each line: codes in [0, B), by user and from a user's oldest basket to the newest."""
        order = np.lexsort((-self.ages, self.users))
        users, ages = self.users[order], self.ages[order]
        starts = np.concatenate(([True], (users[1:] != users[:-1]) | (ages[1:] != ages[:-1])))
        baskets = np.empty(len(order), np.int64)
        baskets[order] = np.cumsum(starts) - 1
        return baskets
