"""Lists with a ranker's scores, the groups of their items and what was wanted: all that the comparison of fair rankers reads.

This module does not know where lists come from, nor how anybody ranks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.types import FloatArray, IntArray

PAGE = 10  # places of a list that are looked at


@dataclass(frozen=True, slots=True)
class ScoredLists:
    """`L` lists with `N` candidates in all, one list's candidates side by side, lists in the order in which they were asked."""

    scores: FloatArray  # (N,) a ranker's probabilities
    groups: IntArray  # (N,) codes into `names`
    gains: FloatArray  # (N,) what a candidate is worth to the user, 0: nothing
    offsets: IntArray  # (L + 1,) list i holds candidates offsets[i] : offsets[i + 1]
    ideal: FloatArray  # (L,) DCG of the best page there could have been, retrieval's losses included
    ids: IntArray  # (L,) 0 … L-1: which list this is, the same for all seeds
    names: tuple[str, ...]  # (g,) groups; the first is the head, which nothing is promised to

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def spans(self) -> Iterator[slice]:
        """The rows of each list."""
        for start, end in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True):
            yield slice(start, end)

    def shares(self) -> FloatArray:
        """(L, g) each group's share of the list's candidates."""
        g = len(self.names)
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        counts = np.bincount(owner * g + self.groups, minlength=len(self) * g).reshape(len(self), g)
        out: FloatArray = counts / np.maximum(np.diff(self.offsets), 1)[:, None]
        return out

    def answerable(self) -> NDArray[np.bool_]:
        """(L,) whether some candidate is wanted: on the other lists every order is as good."""
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return np.bincount(owner, weights=self.gains > 0.0, minlength=len(self)) > 0.0

    def first(self, count: int) -> ScoredLists:
        """The first `count` lists."""
        end = int(self.offsets[: count + 1][-1])
        return replace(
            self,
            scores=self.scores[:end],
            groups=self.groups[:end],
            gains=self.gains[:end],
            offsets=self.offsets[: count + 1],
            ideal=self.ideal[:count],
            ids=self.ids[:count],
        )


def ideal_dcg(positives: IntArray, k: int = PAGE) -> FloatArray:
    """(L,) best DCG@k of lists with (L,) equally wanted items."""
    out: FloatArray = np.concatenate(([0.0], np.cumsum(discounts(k))))[np.minimum(positives, k)]
    return out


def save(path: Path, lists: ScoredLists) -> None:
    """Write to one .npz."""
    columns: dict[str, Any] = {f.name: np.asarray(getattr(lists, f.name)) for f in fields(lists)}
    np.savez(path, **columns)


def load(path: Path) -> ScoredLists:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        columns: dict[str, Any] = {f.name: stored[f.name] for f in fields(ScoredLists)}
    return ScoredLists(**columns | {"names": tuple(columns["names"].tolist())})
