"""What each group got on one list: places and position-discounted exposure, with the fairness policy and without.

Exposure of rank r is 1 / log2(r + 1), DCG's own discount; a group's exposure is its share of the sum over the returned results.
This module looks at one list; it remembers nothing between lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, GroupExposure, IntArray


def discounts(k: int) -> FloatArray:
    """(k,) exposure of ranks 1 … k: 1 / log2(rank + 1)."""
    return 1.0 / np.log2(np.arange(2, k + 2))


def exposure_report(
    before: IntArray,
    after: IntArray,
    groups: NDArray[Any],
    names: Sequence[str],
    targets: Sequence[float] | FloatArray,
    shortfall: Sequence[int] | IntArray,
) -> tuple[GroupExposure, ...]:
    """One line per group, in the order of `names`.

    Args:
        before: (k,) candidate indices ranked by score alone, cut where the list is cut.
        after: (k,) candidate indices as returned.
        groups: (n,) integer codes into `names`.
        names: (g,) group names.
        targets: (g,) floor shares.
        shortfall: (g,) places asked for and not fillable, from `floors.rank_with_floors`.

    Raises:
        ValueError: the two orders, or the per-group arguments, differ in length.
    """
    if len(before) != len(after):
        raise ValueError(f"before, after: must show equally many results, got {len(before)} and {len(after)}")
    if not len(names) == len(targets) == len(shortfall):
        raise ValueError(f"names, targets, shortfall: need one per group, got {len(names)}, {len(targets)} and {len(shortfall)}")
    candidates = np.bincount(groups, minlength=len(names))
    count, exposure = _shown(groups[after], len(names))
    count_before, exposure_before = _shown(groups[before], len(names))
    return tuple(
        GroupExposure(
            group=name,
            candidates=int(candidates[g]),
            target_share=float(targets[g]),
            count=int(count[g]),
            exposure=float(exposure[g]),
            count_before=int(count_before[g]),
            exposure_before=float(exposure_before[g]),
            shortfall=int(shortfall[g]),
        )
        for g, name in enumerate(names)
    )


def _shown(groups: NDArray[Any], g: int) -> tuple[IntArray, FloatArray]:
    """(g,) places and (g,) shares of exposure of a list given by its (k,) group codes; shares are 0 on an empty list."""
    weights = discounts(len(groups))
    exposure = np.bincount(groups, weights=weights, minlength=g)
    return np.bincount(groups, minlength=g), exposure / max(weights.sum(), 1e-12)
