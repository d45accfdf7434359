"""What every member of an ensemble is: a method that turns rows into a scorer. Knows no method and no blend."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

INPUT = "features"
OUTPUT = "logit"
NO_LIST = -1


@dataclass(frozen=True, slots=True)
class Rows:
    """Training rows, resampled or not.

    Attributes:
        features: (n, d) float32; NaN where a value is unknown.
        labels: (n,) int8, 0 or 1.
        weights: (n,) float32, finite and above 0.
        lists: (n,) int64 list of each row; -1 for a row that belongs to none, because resampling made it up.
        again: others will be trained on the same features and labels in this process: what depends on nothing else may be kept for them.

    Raises:
        ValueError: shapes that do not fit, labels that are not 0 or 1, a class without rows, weights that are none.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]
    lists: NDArray[np.int64]
    again: bool = False

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise ValueError(f"features: need (n, d), got {self.features.shape}")
        for name in ("labels", "weights", "lists"):
            if getattr(self, name).shape != (len(self.features),):
                raise ValueError(f"{name}: need one per row ({len(self.features)}), got {getattr(self, name).shape}")
        present = set(np.unique(self.labels).tolist())
        if present != {0, 1}:
            raise ValueError(f"labels: need rows of both classes, 0 and 1, got {sorted(present)}")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise ValueError("weights: must be finite and above 0")

    @classmethod
    def of(cls, features: NDArray[np.float32], labels: NDArray[np.int8], lists: NDArray[np.int64] | None = None) -> Rows:
        """Rows that weigh 1; without `lists` they belong to none."""
        n = len(labels)
        return cls(features, labels, np.ones(n, np.float32), np.full(n, NO_LIST, np.int64) if lists is None else lists)

    @property
    def weighted(self) -> bool:
        """Whether rows weigh differently."""
        return bool((self.weights != self.weights[:1]).any())

    @property
    def negatives_per_positive(self) -> float:
        """By weight."""
        return float(self.weights[self.labels == 0].sum(dtype=np.float64) / self.weights[self.labels == 1].sum(dtype=np.float64))

    def need_lists(self, what: str) -> None:
        """Refuse rows that belong to no list.

        Raises:
            ValueError: naming what needs them.
        """
        homeless = int((self.lists == NO_LIST).sum())
        if homeless:
            raise ValueError(
                f"lists: {what} compares the rows of a list and {homeless} rows belong to none; choose a resampler that makes none up"
            )


class Scorer(Protocol):
    """What a method makes.

    Attributes:
        log_odds: whether scores are the log-odds of a positive among rows like those trained on, so that the shift of a resampling
            can be undone by adding to them; a score that only orders leaves that to its calibrator.
    """

    @property
    def log_odds(self) -> bool: ...

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) scores of (n, d) rows, higher is better."""
        ...


@runtime_checkable
class Exportable(Protocol):
    """A scorer that can be served."""

    def to_onnx(self, *, offset: float, columns: int) -> bytes:
        """An ONNX model: input `features` (n, columns) float32, output `logit` (n, 1) float32 = score + offset."""
        ...


@runtime_checkable
class Explainable(Protocol):
    """A scorer whose single scores can be taken apart."""

    def to_text(self, *, offset: float) -> str:
        """The model as LightGBM's text, from which attributions that add up to score + offset are computed."""
        ...


Method = Callable[..., Scorer]
"""``(rows, *, seed, threads, **options) -> Scorer``; deterministic by seed."""


@dataclass(frozen=True, slots=True)
class Member:
    """A method and what it needs.

    Attributes:
        method: trains.
        weights: it respects row weights.
        lists: it compares rows of one list, so every row must belong to one.
        learns: it depends on the rows; a rule does not.
    """

    method: Method
    weights: bool = True
    lists: bool = False
    learns: bool = True

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the method's options."""
        parameters = inspect.signature(self.method).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("seed", "threads"))
