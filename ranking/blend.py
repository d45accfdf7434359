"""Blending: members' calibrated probabilities, weighted per item group, into one probability per item.

Weights differ by group because evidence does: head items have behaviour to lean on, tail and new items have their text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import Calibrator, logit, sigmoid
from ranking.parse import numbers
from ranking.types import TIERS, FloatArray


@dataclass(frozen=True, slots=True)
class BlendSpec:
    """How one surface's members become one probability.

    Attributes:
        members: member names, the row order of every score matrix.
        weights: group name (`TIERS`) -> one weight per member, ≥ 0 and not all 0.
        calibrators: one per member, from its log-odds.
        final: recalibrates the pooled log-odds: a weighted mean of calibrated experts is under-confident
            (Ranjan and Gneiting 2010).
    """

    members: tuple[str, ...]
    weights: Mapping[str, tuple[float, ...]]
    calibrators: tuple[Calibrator, ...]
    final: Calibrator = field(default_factory=Calibrator)
    _shares: FloatArray = field(init=False, repr=False, compare=False)  # (m, len(TIERS)) what `matrix` says

    def __post_init__(self) -> None:
        if not self.members or len(set(self.members)) != len(self.members):
            raise ValueError(f"members: need at least one and no duplicates, got {list(self.members)}")
        if len(self.calibrators) != len(self.members):
            raise ValueError(f"calibrators: need one per member ({len(self.members)}), got {len(self.calibrators)}")
        for group in TIERS:
            w = self.weights.get(group)
            if w is None or len(w) != len(self.members):
                raise ValueError(f"weights.{group}: need one weight per member ({len(self.members)}), got {w}")
            if not all(np.isfinite(x) and x >= 0 for x in w) or sum(w) <= 0:
                raise ValueError(f"weights.{group}: must be finite, non-negative and not all zero, got {list(w)}")
        unknown = set(self.weights) - set(TIERS)
        if unknown:
            raise ValueError(f"weights.{sorted(unknown)[0]}: unknown group; known: {', '.join(TIERS)}")
        shares = np.array([self.weights[g] for g in TIERS], np.float64).T
        object.__setattr__(self, "_shares", shares / shares.sum(axis=0))

    def matrix(self) -> FloatArray:
        """(len(TIERS), m) weights, each row summing to 1."""
        return self._shares.T

    def weights_of(self, tiers: NDArray[Any]) -> FloatArray:
        """(m, n) weights for (n,) codes into `TIERS`."""
        return self._shares.take(tiers, axis=1)

    def to_json(self) -> dict[str, Any]:
        return {
            "members": list(self.members),
            "weights": {g: list(w) for g, w in self.weights.items()},
            "calibrators": [c.to_json() for c in self.calibrators],
            "final": self.final.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BlendSpec:
        """Raises ValueError naming the key; KeyError for an absent one."""
        return cls(
            members=tuple(data["members"]),
            weights={g: numbers(f"weights.{g}", w) for g, w in data["weights"].items()},
            calibrators=tuple(Calibrator.from_json(c) for c in data["calibrators"]),
            final=Calibrator.from_json(data["final"]),
        )


@dataclass(frozen=True, slots=True)
class Blended:
    """One probability per item and how it came about."""

    probabilities: FloatArray  # (n,) NaN where no member could score
    member_probabilities: FloatArray  # (m, n)
    weights: FloatArray  # (m, n) as used: 0 for an absent member, each scored column sums to 1


def blend(spec: BlendSpec, logits: FloatArray, tiers: NDArray[Any]) -> Blended:
    """Calibrate each member, pool the log-odds with the weights of each item's group, recalibrate the whole pool.

    Log-odds pooling (Genest and Zidek 1986) keeps rare events apart that a mean of probabilities would flatten. A member
    that could not score an item (NaN) is left out there and the others' weights are scaled up; where the weights left
    are all zero, the members that did score share equally. The final calibrator was fitted on whole pools, so where a
    member with weight is absent it does not apply: what is left is calibrated by itself.

    Args:
        spec: the surface's blend.
        logits: (m, n) members' log-odds, NaN where absent.
        tiers: (n,) integer codes into `TIERS`.
    """
    p = np.stack([c(row) for c, row in zip(spec.calibrators, logits, strict=True)])  # (m, n)
    wanted = spec.weights_of(tiers)
    present = ~np.isnan(p)
    if present.all():
        return Blended(spec.final((wanted * logit(p)).sum(axis=0)), p, wanted)
    w = np.where(present, wanted, 0.0)
    total = w.sum(axis=0)
    w = np.where(total > 0, w, present)
    with np.errstate(invalid="ignore"):
        w = w / w.sum(axis=0)  # 0/0 = NaN where nobody scored
    pooled = np.where(present, w * logit(np.where(present, p, 0.5)), 0.0).sum(axis=0)
    pooled[~present.any(axis=0)] = np.nan
    whole = (present | (wanted == 0.0)).all(axis=0)
    return Blended(np.where(whole, spec.final(pooled), sigmoid(pooled)), p, np.nan_to_num(w))
