"""Values by 64-bit key, found for a whole list at once. Knows nothing of what keys and values stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranking.types import Float32Array, IntArray

_NOBODYS = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Lookup:
    """Values by key, k of them and in a last place those of whatever key is not there: looked up by binary search, without a branch."""

    ascending: IntArray  # (k + 1,) the last is larger than any other
    columns: tuple[Float32Array, ...]  # each (k + 1,)

    @property
    def keys(self) -> IntArray:
        """(k,) ascending."""
        return self.ascending[:-1]

    def find(self, keys: IntArray) -> NDArray[np.intp]:
        """(n,) the place of each of (n,) keys, k for one that is not there. O(n log k)."""
        at = self.ascending.searchsorted(keys)
        at[self.ascending[at] != keys] = len(self.ascending) - 1
        return at

    def has(self, places: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) whether what `find` said is a place of a key."""
        return places < len(self.ascending) - 1

    @classmethod
    def of(cls, keys: IntArray, *columns: tuple[Float32Array, float]) -> Self:
        """From (k,) keys in any order, and per column (k,) values and what a key that is not there has."""
        order = np.argsort(keys, kind="stable")
        return cls(np.append(keys[order], _NOBODYS), tuple(np.append(of[order], np.float32(absent)) for of, absent in columns))
