"""What a search may try: parameters by flat name, each a constant or a range to draw from. Knows no searcher and no stage.

A name like ``options/neural/loss`` stands for a place in nested dictionaries: `nested` makes the configuration a trial gets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number in [low, high]; with `log` its logarithm is uniform."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high and (self.low > 0.0 or not self.log)):
            raise ValueError(f"range: need finite low ≤ high{', both above 0' if self.log else ''}, got {self.low:g} and {self.high:g}")

    def draw(self, rng: np.random.Generator) -> float:
        if self.log:
            return float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some names or numbers."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError(f"choice: need at least one value and none twice, got {list(self.values)}")

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.integers(len(self.values)))]


Domain = Uniform | Choice
Space = Mapping[str, Any]
"""Flat name -> `Domain`, or the value itself."""


def searched(space: Space) -> dict[str, Domain]:
    """The parameters that are drawn."""
    return {name: value for name, value in space.items() if isinstance(value, Uniform | Choice)}


def constants(space: Space) -> dict[str, Any]:
    """The others."""
    return {name: value for name, value in space.items() if not isinstance(value, Uniform | Choice)}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a/b": 1}`` as ``{"a": {"b": 1}}``."""
    out: dict[str, Any] = {}
    for name, value in flat.items():
        *places, last = name.split("/")
        at = out
        for place in places:
            at = at.setdefault(place, {})
        at[last] = value
    return out


def within(point: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """What the space draws of a configuration's values; nothing at all where one of them is no choice of the space."""
    kept = {name: value for name, value in point.items() if name in searched(space)}
    for name, value in kept.items():
        domain = space[name]
        if isinstance(domain, Choice) and value not in domain.values:
            return {}
        if isinstance(domain, Uniform) and not domain.low <= value <= domain.high:
            return {}
    return kept


def combinations(space: Space) -> int:
    """Configurations of a space whose searched parameters are all choices."""
    return math.prod(len(domain.values) for domain in _choices(space).values())


def every(space: Space) -> list[dict[str, Any]]:
    """All of them, flat, the last parameter changing fastest."""
    among = _choices(space)
    fixed = constants(space)
    return [{**fixed, **dict(zip(among, values, strict=True))} for values in product(*(domain.values for domain in among.values()))]


def _choices(space: Space) -> dict[str, Choice]:
    out = {}
    for name, domain in searched(space).items():
        if not isinstance(domain, Choice):
            raise ValueError(f"{name}: a grid needs names to choose among, this is a range")
        out[name] = domain
    return out
