"""What a result is worth to the policy: the weighted probability of the outcomes it wants, from the models or from the caller.

Score = Σ weight · probability / Σ weight over the policy's objectives. An outcome that nobody gives a probability of leaves its weight to
the others, item by item, and a degradation says so. Knows no bids and no groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.blend import BlendSpec
from ranking.fairness.policy import FairnessPolicy
from ranking.types import Degradation, Float32Array, FloatArray
from services.gateway.scoring import Scores

COLUMNS: Mapping[str, str] = {"conversion": "p_conversion", "satisfaction": "p_satisfaction"}
"""Objective -> the request column that holds its probability where the release has no blend for it."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What n candidates are worth.

    Attributes:
        score: (n,) weighted probability within [0, 1]; NaN where there is none at all.
        objectives: outcome -> (n,) probability, 0 where there is none; empty for a policy that wants clicks only.
        degradations: outcomes whose weight others took.
    """

    score: FloatArray
    objectives: Mapping[str, FloatArray] = field(default_factory=dict)
    degradations: tuple[Degradation, ...] = ()


def weighed(policy: FairnessPolicy) -> dict[str, float]:
    """The objectives that count, with their weights."""
    return {name: weight for name, weight in policy.objectives.items() if weight > 0.0}


def blends_for(policy: FairnessPolicy, blends: Mapping[str, BlendSpec]) -> dict[str, BlendSpec]:
    """Those of a surface's objective blends that the policy has a use for."""
    return {name: blends[name] for name in weighed(policy) if name in blends}


def worth(
    policy: FairnessPolicy,
    click: FloatArray,
    blends: Mapping[str, BlendSpec],
    scored: Scores,
    tiers: NDArray[Any],
    columns: Mapping[str, Float32Array],
) -> Worth:
    """Weigh the policy's objectives.

    Args:
        policy: its weights.
        click: (n,) blended probabilities, NaN where no member could score.
        blends: from `blends_for`.
        scored: the members' log-odds.
        tiers: (n,) index into `TIERS`.
        columns: the request's, checked to be probabilities.
    """
    weights = weighed(policy)
    if list(weights) == ["click"]:
        return Worth(click)
    n = len(click)
    found: dict[str, FloatArray] = {}
    for name in weights:
        p = click if name == "click" else np.full(n, np.nan)
        if name in blends:
            p = scored.blend(blends[name], tiers).probabilities
        column = columns.get(COLUMNS.get(name, ""))
        found[name] = p if column is None else np.where(np.isnan(p), column, p)
    p = np.stack(list(found.values()))  # (o, n)
    w = np.where(np.isnan(p), 0.0, np.array(list(weights.values()))[:, None])
    total = w.sum(axis=0)
    score = np.where(total > 0.0, (w * np.nan_to_num(p)).sum(axis=0) / np.maximum(total, 1e-300), click)
    degraded = tuple(_absent(name, int(np.isnan(row).sum()), n) for name, row in found.items() if name != "click" and np.isnan(row).any())
    return Worth(score, {name: np.nan_to_num(row) for name, row in found.items()}, degraded)


def _absent(name: str, missing: int, n: int) -> Degradation:
    detail = f"{missing} of {n} candidates have no probability of {name}; its weight went to the other objectives"
    return Degradation(f"objective:{name}", "ABSENT" if missing == n else "PARTIAL", detail)
