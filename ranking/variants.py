"""The forms one text model is served in: how far each may stray from the model that was trained, and what the manifest says of it.

A variant is refused beyond its bound wherever it turns up: when a release is published and when its manifest is read. Knows no file
and no runtime: `training.release.precision` makes and measures variants, `deploy.triton.runtime` runs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.errors import InvalidRelease
from ranking.parse import inside, integer, mapping, number, text_of

VERSION = 1  # of what the manifest says of variants
FP32, BF16, INT8 = "fp32", "bf16", "int8"


@dataclass(frozen=True, slots=True)
class Parity:
    """How a model's served form compares with the model in the framework that trained it, on the same real rows.

    Attributes:
        rows: compared.
        max_error: largest absolute difference of a score, in log-odds.
        rank_correlation: Spearman's, over all rows; 1 where every score is the same.
    """

    rows: int
    max_error: float
    rank_correlation: float

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "max_error": self.max_error, "rank_correlation": self.rank_correlation}

    @classmethod
    def from_json(cls, data: Any) -> Parity:
        """Raises KeyError or ValueError, naming the key."""
        found = mapping("parity", data)
        parity = cls(
            integer("rows", found["rows"]), number("max_error", found["max_error"]), number("rank_correlation", found["rank_correlation"])
        )
        if parity.rows < 1 or not (math.isfinite(parity.max_error) and parity.max_error >= 0.0):
            raise ValueError("parity: needs at least one row, and an error that is finite and not negative")
        return parity


@dataclass(frozen=True, slots=True)
class Bound:
    """What a served form may differ by."""

    max_error: float  # log-odds
    rank_correlation: float  # at least


BOUNDS: Mapping[str, Bound] = {
    FP32: Bound(1e-3, 0.9999),  # the same arithmetic in another order: what is off by more is another model
    BF16: Bound(5e-2, 0.999),  # eight bits of mantissa move a log-odds of 4 by about .02
    INT8: Bound(1e-1, 0.995),
}
"""By variant. All of them are read by one calibrator, which was fitted on fp32's scores: a log-odds off by e multiplies the odds that an
ad's price is made of by exp(e). A tenth is as far off as the calibration gate lets whole groups be (predicted over actual within
[.9, 1.1]); no single score may be off by more than a group is allowed to."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a model.

    Attributes:
        name: of `BOUNDS`.
        path: the ONNX file, relative to the release directory; variants that differ in the runtime's arithmetic alone share one.
        sha256: its digest.
        parity: measured when it was exported.
    """

    name: str
    path: str
    sha256: str
    parity: Parity

    @property
    def atol(self) -> float:
        """How far its golden scores may be off, in log-odds."""
        return BOUNDS[self.name].max_error


@dataclass(frozen=True, slots=True)
class Variants:
    """Those that may be served, in order of preference, and those that were made, measured and refused."""

    served: tuple[Variant, ...] = ()
    refused: Mapping[str, Parity] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "served": [{"name": v.name, "path": v.path, "sha256": v.sha256, "parity": v.parity.to_json()} for v in self.served],
            "refused": {name: parity.to_json() for name, parity in self.refused.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Variants:
        """Read what `to_json` wrote; of a later version nothing is known, and the member is served as it always was.

        Raises:
            InvalidRelease: naming the variant and the figure that is beyond its bound.
            KeyError, ValueError: naming the key.
        """
        found = mapping("variants", data)
        if integer("version", found["version"]) != VERSION:
            return cls()
        served = tuple(_variant(v) for v in found["served"])
        names = [v.name for v in served]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"served: need at least one and no name twice, got {names}")
        return cls(served, {name: Parity.from_json(p) for name, p in mapping("refused", found["refused"]).items()})


def parity(got: NDArray[Any], want: NDArray[Any]) -> Parity:
    """Compare (n,) scores of a served form with (n,) scores of the framework that trained the model.

    A score that is not finite makes the error infinite: no bound allows it.
    """
    got, want = got.astype(np.float64), want.astype(np.float64)
    if not np.isfinite(got).all():
        return Parity(len(got), math.inf, 0.0)
    here, there = _ranks(got), _ranks(want)
    deviations = float(here.std() * there.std())
    correlation = float(((here - here.mean()) * (there - there.mean())).mean()) / deviations if deviations else 1.0
    return Parity(len(got), float(np.abs(got - want).max()), correlation)


def beyond(found: Parity, bound: Bound) -> str:
    """Which figure is beyond the bound, as a sentence's end; empty where none is."""
    if not found.max_error <= bound.max_error:
        return f"is off by up to {found.max_error:.3g} log-odds on {found.rows} rows, its bound is {bound.max_error:g}"
    if not found.rank_correlation >= bound.rank_correlation:
        return f"has rank correlation {found.rank_correlation:.5g} on {found.rows} rows, its bound is {bound.rank_correlation:g}"
    return ""


def _variant(data: Mapping[str, Any]) -> Variant:
    name = text_of(data, "name")
    if name not in BOUNDS:
        raise ValueError(f"name: {name!r} is not one of {', '.join(BOUNDS)}")
    variant = Variant(name, inside(data), text_of(data, "sha256"), Parity.from_json(data["parity"]))
    if problem := beyond(variant.parity, BOUNDS[name]):
        raise InvalidRelease(name, problem)
    return variant


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) ranks, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)
