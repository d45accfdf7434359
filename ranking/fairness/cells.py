"""Candidates that every rule treats alike: a cell is all those that share their group of every attribute, and is used in order of score.

Exchanging two items of one cell breaks no rule, so a list is a sequence of cells, and this module turns one into a ranking and says what it
owes to floors and ceilings. It chooses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.floors import FairRanking, rank_by_score
from ranking.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Cells:
    """The candidates of one list by cell.

    Group ids are flat over A attributes, G in all; every cell has one group per attribute.
    """

    by_score: IntArray  # (n,) candidates, best first
    rank: IntArray  # (n,) ranks by score, from 0, cell by cell, each cell best first
    start: IntArray  # (C + 1,) where each cell begins in `rank`
    groups: IntArray  # (A, C) flat group id
    have: IntArray  # (G,) candidates of each group


def cells_of(scores: FloatArray, codes: NDArray[Any], g: int) -> Cells:
    """Sort (n,) scores into cells.

    Args:
        scores: (n,) finite.
        codes: (A, n) flat group id of each candidate, per attribute.
        g: number of groups of all attributes.
    """
    by_score = rank_by_score(scores)
    flat = codes[:, by_score].astype(np.int64)
    groups, cell = np.arange(g)[None], flat[0]  # of one attribute every group is a cell, empty ones, too
    if len(flat) > 1:
        groups, cell = np.unique(flat, axis=1, return_inverse=True)
    rank = np.argsort(cell, kind="stable")
    start = np.concatenate(([0], np.cumsum(np.bincount(cell, minlength=groups.shape[1]))))
    return Cells(by_score, rank, start, groups, np.bincount(flat.ravel(), minlength=g))


def ranking_of(cells: Cells, sequence: IntArray, lower: IntArray, upper: IntArray, gap: float = 0.0) -> FairRanking:
    """The ranking that takes the best candidate left of each cell in turn.

    A result above its rank by score was lifted by a floor if a better candidate stands behind it that no ceiling kept from its place; of
    its groups' floors the one that wanted it within the fewest places is named. `shortfall` and `excess` are the most places by which any
    prefix misses the floor, or is above the ceiling.

    Args:
        cells: of the candidates.
        sequence: (K,) cell of each place.
        lower: (G, K) least places of each group among the first 1 … K.
        upper: (G, K) most places.
        gap: see `FairRanking`.
    """
    k = len(sequence)
    chosen = _one_hot(sequence, cells.groups.shape[1])
    used = np.cumsum(chosen, axis=1)  # (C, K) after each place
    rank = cells.rank[cells.start[sequence] + used[sequence, np.arange(k)] - 1]
    count = np.zeros((len(lower), k), np.int64)  # (G, K)
    for groups in cells.groups:
        count += np.cumsum(_one_hot(groups[sequence], len(lower)), axis=1)
    binding, prefix = np.full(k, -1), np.zeros(k, np.int64)
    lifted = np.flatnonzero(rank > np.arange(k))
    if len(lifted):
        room = np.ones((cells.groups.shape[1], len(lifted)), bool)  # (C, lifted) whether ceilings would have let the cell in
        for groups in cells.groups:
            before = count[:, lifted] - _one_hot(groups[sequence[lifted]], len(lower))
            room &= (before < upper[:, lifted])[groups]
        at = cells.start[:-1, None] + used[:, lifted] - chosen[:, lifted]
        left = at < cells.start[1:, None]
        head = np.where(left & room, cells.rank[np.where(left, at, 0)], len(cells.rank))  # (C, lifted) best candidate left
        for p in lifted[head.min(axis=0) < rank[lifted]].tolist():
            mine = cells.groups[:, sequence[p]]
            due = (lower[mine] < count[mine, p][:, None]).sum(axis=1) + 1  # (A,) places within which each floor wants so many; K + 1: never
            a = int(due.argmin())
            if due[a] <= k:
                binding[p], prefix[p] = mine[a], due[a]
    order = cells.by_score[rank]
    missing = np.maximum(lower - count, 0).max(axis=1, initial=0)
    return FairRanking(order, binding, prefix, missing, np.maximum(count - upper, 0).max(axis=1, initial=0), gap)


def _one_hot(codes: IntArray, most: int) -> IntArray:
    """(most, len(codes)) 1 in the row of each column's code, else 0."""
    out = np.zeros((most, len(codes)), np.int64)
    out[codes, np.arange(len(codes))] = 1
    return out
