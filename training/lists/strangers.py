"""Training lists asked by strangers: without them a model never sees a user nobody knows, and orders for one worse than popularity does.

What it gains and costs is in docs/benchmarks/training.md, "Cold start".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import as_unknown_user
from ranking.types import Float32Array


def with_strangers(x: Float32Array, lists: NDArray[np.int64], share: float, seed: int) -> Float32Array:
    """(n, len(MODEL_COLUMNS)) the same rows, those of some lists as an unknown user would have them.

    Args:
        x: (n, len(MODEL_COLUMNS)) rows of any users; not changed.
        lists: (n,) list of each row, from 0.
        share: of the lists, drawn at random, in [0, 1].
        seed: of the draw.
    """
    drawn = np.random.default_rng(seed).random(int(lists.max()) + 1 if len(lists) else 0) < share
    theirs = drawn[lists]
    out = x.copy()
    out[theirs] = as_unknown_user(x[theirs])
    return out
