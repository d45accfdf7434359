"""The ensemble of learners: every learner with several seeds, its scores standardised within each list, and their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ranking.types import FloatArray, IntArray
from training.relevance.learners import LEARNERS, READERS, Features, Learnt
from training.relevance.pool import z_scores

CHOSEN = ("drawn", "drawn_standing", "ridge")
"""Learners of the ensemble (docs/benchmarks/relevance.md)."""
SEEDS = (0, 1, 2)
SEEDLESS = ("ridge",)
_SUFFIX = ".txt"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trained learners by name, one per seed."""

    members: Mapping[str, tuple[Learnt, ...]]

    def scores(self, features: Features, offsets: IntArray) -> FloatArray:
        """(N,) of (N, d) rows in lists: the mean over learners of the mean over seeds of standardised scores."""
        return np.mean(list(self.by_member(features, offsets).values()), axis=0)  # type: ignore[no-any-return]

    def by_member(self, features: Features, offsets: IntArray) -> dict[str, FloatArray]:
        """(N,) of each learner, standardised within lists."""
        return {
            name: standardised(np.mean([standardised(one.scores(features, offsets), offsets) for one in seeds], axis=0), offsets)
            for name, seeds in sorted(self.members.items())  # one order of adding up, whoever made the mapping
        }

    def save(self, folder: Path) -> None:
        """One text file per learner and seed: LightGBM's own text, or weights as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, seeds in self.members.items():
            for i, one in enumerate(seeds):
                (folder / f"{name}.{i}{_SUFFIX}").write_text(one.to_text(), "utf-8")

    @classmethod
    def load(cls, folder: Path, members: Mapping[str, int]) -> Ensemble:
        """From `save`; `members` says how many seeds each learner has.

        Raises:
            FileNotFoundError: a file is not there.
        """
        return cls(
            {
                name: tuple(READERS[name]((folder / f"{name}.{i}{_SUFFIX}").read_text("utf-8")) for i in range(n))
                for name, n in members.items()
            }
        )


def fit(
    features: Features, gains: FloatArray, offsets: IntArray, *, names: Sequence[str] = CHOSEN, seeds: Sequence[int] = SEEDS
) -> Ensemble:
    """Train every learner; the same rows, seeds and names give the same ensemble.

    Args:
        features: (N, d).
        gains: (N,) within [0, 1].
        offsets: (L + 1,) list boundaries.
        names: learners.
        seeds: of those that draw.
    """
    return Ensemble(
        {name: tuple(LEARNERS[name](features, gains, offsets, s) for s in (seeds[:1] if name in SEEDLESS else seeds)) for name in names}
    )


def standardised(scores: FloatArray, offsets: IntArray) -> FloatArray:
    """(N,) in standard deviations from the list's mean."""
    return np.concatenate([z_scores(scores[a:b]) for a, b in pairwise(offsets)])
