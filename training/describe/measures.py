"""How far a set of counts is from balance: pure functions of arrays, and `Balance`, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.features import HEAD_SHARE
from ranking.metrics import gini
from ranking.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Balance:
    """Counts of one kind of thing: interactions per item, per category, rows per label.

    Attributes:
        things: how many there are.
        total: sum of their counts.
        untouched: how many of them have none.
        imbalance_ratio: largest count over the smallest above 0; 1 is balance, 0 where nothing was counted.
        head_share: what the most frequent fifth of the things (at least one) have of the total.
        tail_share: what the others have.
        gini: 0 where all have the same, towards 1 where one has all.
        ranked: (things,) counts, largest first.
    """

    things: int
    total: int
    untouched: int
    imbalance_ratio: float
    head_share: float
    tail_share: float
    gini: float
    ranked: IntArray


def balance(counts: NDArray[np.integer]) -> Balance:
    """Measure (n,) counts, those of 0 included. O(n log n)."""
    ranked = np.sort(np.asarray(counts, np.int64))[::-1]
    total, head = int(ranked.sum()), int(np.ceil(HEAD_SHARE * len(ranked)))
    share = float(ranked[:head].sum() / total) if total else 0.0
    return Balance(
        things=len(ranked),
        total=total,
        untouched=int(np.sum(ranked == 0)),
        imbalance_ratio=imbalance_ratio(ranked),
        head_share=share,
        tail_share=1.0 - share if total else 0.0,
        gini=gini(ranked),
        ranked=ranked,
    )


def imbalance_ratio(counts: NDArray[np.integer]) -> float:
    """Largest count over the smallest above 0; 0 where all are 0."""
    some = counts[counts > 0]
    return float(some.max() / some.min()) if len(some) else 0.0


def lorenz(ranked: IntArray, points: int = 200) -> tuple[FloatArray, FloatArray]:
    """Shares of the things, largest first, and what they have of the total, each (≤ points + 1,): the curve of a head's weight."""
    cumulative = np.concatenate(([0], np.cumsum(ranked)))
    at = np.unique(np.linspace(0, len(ranked), points + 1).astype(np.int64))
    return at / max(len(ranked), 1), cumulative[at] / max(int(cumulative[-1]), 1)
