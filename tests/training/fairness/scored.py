"""Small made-up lists: head items are likelier to be wanted, and scores know it."""

from __future__ import annotations

import numpy as np

from ranking.types import TIERS
from training.fairness.lists import PAGE, ScoredLists, ideal_dcg


def scored_lists(seed: int, count: int, length: int = 30) -> ScoredLists:
    rng = np.random.default_rng(seed)
    groups = rng.choice(3, count * length, p=(0.5, 0.35, 0.15))
    scores = np.clip(0.2 * rng.random(len(groups)) - 0.05 * groups, 1e-4, None)
    gains = (rng.random(len(groups)) < scores).astype(np.float64)
    offsets = np.arange(count + 1, dtype=np.int64) * length
    ideal = ideal_dcg(np.add.reduceat(gains, offsets[:-1]).astype(np.int64), PAGE)
    return ScoredLists(scores, groups, gains, offsets, ideal, np.arange(count), TIERS)
