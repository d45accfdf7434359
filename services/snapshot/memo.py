"""Rows of items asked for before, so that a list of such items is not hashed again: half of what gathering a short list takes.

For catalogues of which that is likely; of a larger one most lists have an item nobody asked for lately, and the asking would be for
nothing. A row stays an item's own as long as the file is mapped, and its hash is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from services.snapshot.keys import Hashes

LARGEST = 1 << 18
"""Rows of the largest catalogue whose items are remembered."""
MOST = 1 << 16
"""Items remembered, some 10 MB; with one more all are forgotten."""


class Memo:
    """Of one mapped file. Safe on any number of threads."""

    def __init__(self, rows: int) -> None:
        """Nothing is known yet.

        Args:
            rows: that the file has room for.
        """
        self._rows: dict[str, int] = {}
        self._hashes: Hashes | None = np.zeros(rows, np.uint64) if rows <= LARGEST else None

    def get(self, item_ids: Sequence[str]) -> tuple[Hashes, NDArray[np.intp]] | None:
        """(n,) hashes and rows; None where some item was never asked for."""
        if self._hashes is None:
            return None
        found = np.fromiter(map(self._rows.get, item_ids, repeat(0)), np.intp, len(item_ids))
        return (self._hashes.take(found), found) if found.all() else None

    def put(self, item_ids: Sequence[str], hashes: Hashes, found: NDArray[np.intp]) -> None:
        """Remember (n,) rows; 0 is none."""
        if self._hashes is not None:
            if len(self._rows) + len(item_ids) > MOST:
                self._rows.clear()
            self._hashes[found] = hashes  # before the rows: whoever finds one finds its hash
            self._rows.update((item, row) for item, row in zip(item_ids, found.tolist(), strict=True) if row)
