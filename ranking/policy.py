"""Fairness policies as data: which groups are guaranteed which share of the first places, versioned and validated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ranking.parse import integer, number, text
from ranking.types import TIERS, FloatArray

Mode = Literal["enforce", "report_only", "off"]


@dataclass(frozen=True, slots=True)
class FairnessPolicy:
    """Floors on the share of places, at every prefix of the list, for groups of one item attribute.

    Attributes:
        name: what a request's `policy` field selects.
        version: changes whenever anything else does; echoed in every answer.
        shares: group -> floor share in [0, 1]; groups not named have floor 0; the sum is at most 1.
        mode: `enforce` re-ranks, `report_only` reports what enforcing would cost in places, `off` does neither.
        group_by: the item attribute the groups partition.
        reserve_micros: ads only: the least price per click, and the least bid that may compete.
    """

    name: str
    version: str
    shares: Mapping[str, float] = field(default_factory=dict)
    mode: Mode = "enforce"
    group_by: Literal["popularity_tier"] = "popularity_tier"
    reserve_micros: int = 0

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise ValueError(f"name, version: must not be empty, got {self.name!r} and {self.version!r}")
        if self.mode not in ("enforce", "report_only", "off"):
            raise ValueError(f"mode: {self.mode!r} is not one of enforce, report_only, off")
        if self.group_by != "popularity_tier":
            raise ValueError(f"group_by: {self.group_by!r} is not known; known: popularity_tier")
        for group, share in self.shares.items():
            if group not in TIERS:
                raise ValueError(f"shares.{group}: unknown group; known: {', '.join(TIERS)}")
            if not (math.isfinite(share) and 0.0 <= share <= 1.0):
                raise ValueError(f"shares.{group}: must be within [0, 1], got {share}")
        if sum(self.shares.values()) > 1.0 + 1e-9:
            raise ValueError(f"shares: must sum to at most 1, got {sum(self.shares.values()):g}")
        if self.reserve_micros < 0:
            raise ValueError(f"reserve_micros: must not be negative, got {self.reserve_micros}")

    def share_vector(self) -> FloatArray:
        """(len(TIERS),) floor shares in group-code order."""
        return np.array([self.shares.get(g, 0.0) for g in TIERS])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "shares": dict(self.shares),
            "mode": self.mode,
            "group_by": self.group_by,
            "reserve_micros": self.reserve_micros,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FairnessPolicy:
        """Raises ValueError naming the key; KeyError for an absent one."""
        unknown = set(data) - {"name", "version", "shares", "mode", "group_by", "reserve_micros"}
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]}: unknown key")
        return cls(
            name=text("name", data["name"]),
            version=text("version", data["version"]),
            shares={str(g): number(f"shares.{g}", s) for g, s in data.get("shares", {}).items()},
            mode=data.get("mode", "enforce"),
            group_by=data.get("group_by", "popularity_tier"),
            reserve_micros=integer("reserve_micros", data.get("reserve_micros", 0)),
        )
