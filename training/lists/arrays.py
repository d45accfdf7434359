"""Rows and lists as arrays: what members learn from, and what ensembles are calibrated and compared on. No ids, texts or times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TrainRows:
    """Training rows: all positives and a known share of the negatives, from training weeks only."""

    features: NDArray[np.float32]  # (n, d)
    labels: NDArray[np.int8]  # (n,)
    negatives_rate: float  # share of the negatives kept
    lists: NDArray[np.int64]  # (n,) list of each row
    households: NDArray[np.int64] | None = None  # (n,) who asked; None: nobody asked twice

    def take(self, rows: NDArray[Any]) -> TrainRows:
        """Some of the rows, by mask or index."""
        households = None if self.households is None else self.households[rows]
        return TrainRows(self.features[rows], self.labels[rows], self.negatives_rate, self.lists[rows], households)


@dataclass(frozen=True, slots=True)
class EvalLists:
    """Whole validation or test lists as a gateway would get them: never resampled."""

    features: NDArray[np.float32]  # (N, d)
    labels: NDArray[np.int8]  # (N,)
    tiers: NDArray[np.int8]  # (N,) codes into TIERS
    given: Mapping[str, NDArray[np.float64]]  # member that is no function of the features -> (N,) its scores, NaN without text
    offsets: NDArray[np.int64]  # (L + 1,)
    ideal_positives: NDArray[np.int64]  # (L,) positives of the list before retrieval cut it
    households: NDArray[np.int64] | None = None  # (L,) who asked; None: nobody asked twice

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lists(self, which: NDArray[Any]) -> EvalLists:
        """The lists at `which`, (l,) indices."""
        spans = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in which]
        rows = np.concatenate(spans) if spans else np.empty(0, np.int64)
        lengths = [len(s) for s in spans]
        return EvalLists(
            self.features[rows],
            self.labels[rows],
            self.tiers[rows],
            {name: scores[rows] for name, scores in self.given.items()},
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            self.ideal_positives[which],
            None if self.households is None else self.households[which],
        )


@dataclass(frozen=True, slots=True)
class EnsembleData:
    """What every trial of one surface shares."""

    train: TrainRows
    calibrate: EvalLists  # validation lists that calibrators are fitted on
    select: EvalLists  # the other validation lists, on which configurations are compared
