"""Folds in which whole households stand on one side: whoever learns from a household's rows never scores its others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def by_group(groups: Sequence[NDArray[np.int64]], folds: int, seed: int) -> tuple[NDArray[np.int64], ...]:
    """Fold of every row, 0 … folds − 1; equal groups share a fold, in all the arrays given.

    Args:
        groups: arrays of group keys, such as the training rows' households and the validation rows'.
        folds: at least 2.
        seed: of the draw; folds have as many groups as one another, give or take one.

    Raises:
        ValueError: fewer groups than folds, or fewer than 2 folds.
    """
    keys, inverse = np.unique(np.concatenate(groups), return_inverse=True)
    if not 2 <= folds <= len(keys):
        raise ValueError(f"folds: need at least 2 and at most one per household ({len(keys)}), got {folds}")
    fold = np.random.default_rng(seed).permutation(len(keys)) % folds
    ends = np.cumsum([len(g) for g in groups])[:-1]
    return tuple(np.split(fold[inverse].astype(np.int64), ends))
