"""From a model's log-odds to a probability that means what it says.

Fitting lives in `training/blends/calibrators.py`; what is fitted is data here, so that the gateway applies exactly what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ranking.parse import number, numbers
from ranking.types import FloatArray

Kind = Literal["identity", "platt", "isotonic"]
_LOGIT_LIMIT = 30.0  # sigmoid(±30) is within 1e-13 of 0 and 1: far past any rate we see, and log() of it is finite


def sigmoid(logits: FloatArray) -> FloatArray:
    """1 / (1 + e^-x), elementwise, without overflow. NaN stays NaN."""
    z = _clipped(np.asarray(logits, np.float64))
    p: FloatArray = 1.0 / (1.0 + np.exp(-z))
    return p


def logit(probabilities: FloatArray) -> FloatArray:
    """ln(p / (1 - p)), elementwise, clipped to ±30. NaN stays NaN."""
    p = np.asarray(probabilities, np.float64)
    with np.errstate(divide="ignore"):
        return _clipped(np.log(p) - np.log1p(-p))


def _clipped(logits: FloatArray) -> FloatArray:
    """As `numpy.clip` to ±30, which takes several times as long for a list."""
    out: FloatArray = np.minimum(np.maximum(logits, -_LOGIT_LIMIT), _LOGIT_LIMIT)
    return out


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A monotone map from log-odds to probability.

    * ``identity``: sigmoid(x).
    * ``platt``: sigmoid(a·x + b), a > 0 (Platt 1999).
    * ``isotonic``: linear interpolation between the knots (x_i, y_i), both non-decreasing; flat outside (Zadrozny and Elkan 2002).
    """

    kind: Kind = "identity"
    a: float = 1.0
    b: float = 0.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    _knots: tuple[FloatArray, FloatArray] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in ("identity", "platt", "isotonic"):
            raise ValueError(f"kind: {self.kind!r} is not one of identity, platt, isotonic")
        if not (np.isfinite(self.a) and np.isfinite(self.b) and self.a > 0):
            raise ValueError(f"a, b: must be finite with a > 0, got a={self.a}, b={self.b}")
        if self.kind == "isotonic":
            x, y = np.asarray(self.x), np.asarray(self.y)
            if len(x) < 1 or len(x) != len(y):
                raise ValueError(f"x, y: need equally many knots, at least 1; got {len(x)} and {len(y)}")
            if not (np.isfinite(x).all() and (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all() and (y >= 0).all() and (y <= 1).all()):
                raise ValueError("x, y: knots must be finite and non-decreasing, y within [0, 1]")
        object.__setattr__(self, "_knots", (np.array(self.x, np.float64), np.array(self.y, np.float64)))

    def __call__(self, logits: FloatArray) -> FloatArray:
        """Probabilities of (n,) log-odds; NaN (could not score) stays NaN."""
        z = np.asarray(logits, np.float64)
        if self.kind == "isotonic":
            p: FloatArray = np.interp(z, *self._knots)
            if len(self.x) == 1:  # one knot is every number's, to numpy also that of what is none
                p[np.isnan(z)] = np.nan
            return p
        return sigmoid(z if self.kind == "identity" else self.a * z + self.b)

    def to_json(self) -> dict[str, Any]:
        match self.kind:
            case "platt":
                return {"kind": self.kind, "a": self.a, "b": self.b}
            case "isotonic":
                return {"kind": self.kind, "x": list(self.x), "y": list(self.y)}
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibrator:
        """Raises ValueError naming the key."""
        unknown = set(data) - {"kind", "a", "b", "x", "y"}
        if unknown:
            raise ValueError(f"{sorted(unknown)[0]}: unknown key")
        return cls(
            kind=data.get("kind", "identity"),
            a=number("a", data.get("a", 1.0)),
            b=number("b", data.get("b", 0.0)),
            x=numbers("x", data.get("x", ())),
            y=numbers("y", data.get("y", ())),
        )


def undo_negative_sampling(probabilities: FloatArray, keep_rate: float) -> FloatArray:
    """The true probability when training kept each negative with probability `keep_rate`: p / (p + (1 - p) / w).

    He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook", section 6.3.

    Raises:
        ValueError: keep_rate outside (0, 1].
    """
    if not 0.0 < keep_rate <= 1.0:
        raise ValueError(f"keep_rate: must be in (0, 1], got {keep_rate}")
    p = np.asarray(probabilities, np.float64)
    return p / (p + (1.0 - p) / keep_rate)
