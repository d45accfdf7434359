"""What fusion is worth where the truth is known: each modality alone, both fusions, fewer and fewer images. Knows made-up lists only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ranking.metrics.intervals import bootstrap_interval, paired_bootstrap_interval
from ranking.text import SpecialTokens
from ranking.types import FloatArray
from training.bert import styles
from training.bert.compare import Encoder, ndcg, ranked, three, trained
from training.bert.fit import Settings
from training.bert.fusion import MODALITIES, fused
from training.bert.heads import Task

MISSING = (0.0, 0.5, 1.0)
"""Shares of test images that are missing."""
_SEED, _DRAWS = 11, 500


@dataclass(frozen=True, slots=True)
class Fused:
    """What one head reads and how well it ranks.

    Attributes:
        name: a modality alone, `concatenation` or `gated`.
        missing: share of the test images that are missing.
        ndcg10: value, low, high.
        gain: the paired difference to the best single modality with all images.
    """

    name: str
    missing: float
    ndcg10: tuple[float, float, float]
    gain: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    encoder: Encoder, special: SpecialTokens, *, train: int, test: int, settings: Settings, method: str = "head", missing: float = 0.2
) -> list[Fused]:
    """Train every head on the same lists, of whose images a share is missing, and rank test lists with fewer and fewer images.

    Args:
        encoder: makes the encoder.
        special: framing ids.
        train: lists.
        test: lists.
        settings: of each run.
        method: of tuning the encoder; frozen by default, since fusion is what is measured.
        missing: share of the training images.
    """
    made = styles.lists(train, seed=1, missing=missing)
    tests = {share: styles.lists(test, seed=2, missing=share) for share in MISSING}
    values: dict[tuple[str, float], FloatArray] = {}
    for name, task in heads().items():
        model, *_ = trained(encoder(), made.pairs, [task], special, method=method, settings=settings)
        for share, lists in tests.items():
            values[name, share] = ndcg(ranked(model, lists, special), lists)
    best = max(MODALITIES, key=lambda name: float(np.nanmean(values[name, 0.0])))
    return [
        Fused(
            name,
            share,
            three(bootstrap_interval(found, _SEED, n=_DRAWS)),
            three(paired_bootstrap_interval(found, values[best, 0.0], _SEED, n=_DRAWS)),
        )
        for (name, share), found in values.items()
    ]


def heads() -> Mapping[str, Task]:
    """What is compared, by name."""
    sizes = {"features": 1, "image": styles.WIDTH}
    alone = {name: fused(**sizes, use=(name,), gated=False) for name in MODALITIES}
    return alone | {"concatenation": fused(**sizes, gated=False), "gated": fused(**sizes)}
