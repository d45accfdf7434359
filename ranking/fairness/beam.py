"""Beam search for a sequence of cells that keeps the bounds of several attributes at every prefix, with a bound on what it may have lost.

The states after t places are how many candidates of each cell are used. A prefix is worth Σ_j (w_j − w_j+1) · S_j, S_j the sum of its
first j scores; the places to come add at most the same sum over the best S_j that any one attribute's floors allow. Both together bound
every list that begins like the prefix, so the states with the largest worth are kept, and the largest worth dropped bounds what was lost.
Knows cells and integer bounds; not what a group means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.cells import Cells
from ranking.types import FloatArray, IntArray

_CEILING = 1e-3  # what a place above a ceiling counts, against 1 for a place missing to a floor
_ALIKE = 8  # options looked at per state kept, so that enough are left when different orders of the same cells are merged


@dataclass(frozen=True, slots=True)
class Found:
    """The best sequence of the search."""

    sequence: IntArray  # (K,) cell of each place
    broken: float  # places missing, and above ceilings times `_CEILING`, summed over prefixes; 0: all bounds are kept
    value: float  # Σ weight · score
    bound: float  # no sequence that breaks as little is worth more; infinite where nothing is known


@dataclass(slots=True)
class _Beam:
    """B prefixes of equal length."""

    used: IntArray  # (B, C) candidates taken of each cell
    count: IntArray  # (B, G) places of each group
    slack: IntArray  # (B, A, K) places up to each prefix that no floor of the attribute claims; negative: so many will be missing
    broken: FloatArray  # (B,) as in `Found`, so far
    total: FloatArray  # (B,) sum of the scores
    value: FloatArray  # (B,) worth of the prefix
    name: NDArray[np.uint64]  # (B,) equal for the same cells in any order

    def take(self, rows: IntArray) -> _Beam:
        return _Beam(
            self.used[rows],
            self.count[rows],
            self.slack[rows],
            self.broken[rows],
            self.total[rows],
            self.value[rows],
            self.name[rows],
        )


def search(cells: Cells, scores: FloatArray, lower: IntArray, upper: IntArray, weights: FloatArray, best: FloatArray, width: int) -> Found:
    """The best sequence of cells that a beam of `width` states finds.

    Args:
        cells: of n candidates.
        scores: (n,) not negative, best first.
        lower: (G, K) least places of each group among the first 1 … K, no more than it has candidates.
        upper: (G, K) most places.
        weights: (K,) not negative, not increasing.
        best: (K,) the largest sum of scores that any list within the bounds has among its first 1 … K.
        width: states kept.
    """
    k = lower.shape[1]
    size = np.diff(cells.start)
    head = np.append(scores[cells.rank], 0.0)  # of each cell, best first
    steps = weights - np.append(weights[1:], 0.0)  # (K,) w_j - w_j+1
    to_come = np.append(np.cumsum((steps * best)[::-1])[::-1][1:], 0.0)  # (K,) after each place
    due = _deadlines(lower)
    attribute = np.zeros(len(lower), np.int64)  # of each group that has candidates
    for a, groups in enumerate(cells.groups):
        attribute[groups] = a
    member = np.zeros((len(cells.groups), len(lower)), np.int64)
    for a, groups in enumerate(cells.groups):
        member[a, groups] = 1
    names = _scattered(len(size))
    unbearable = 4.0 / _CEILING * (float(weights @ scores[:k]) or 1.0)  # a single place broken outweighs all utility
    beam = _Beam(
        np.zeros((1, len(size)), np.int64),
        np.zeros((1, len(lower)), np.int64),
        np.arange(1, k + 1) - (member @ lower)[None],
        np.zeros(1),
        np.zeros(1),
        np.zeros(1),
        np.zeros(1, np.uint64),
    )
    history: list[tuple[IntArray, IntArray]] = []
    lost: list[tuple[float, float]] = []  # broken at least, worth at most, of the states dropped
    for t in range(k):
        cost = _missed(beam, due, attribute, t) + _CEILING * (beam.count >= upper[:, t])  # (B, G) of giving the group place t
        over = np.maximum(beam.count - upper[:, t], 0).sum(axis=1)
        broken = (beam.broken + _CEILING * over)[:, None] + sum(cost[:, groups] for groups in cells.groups)
        gain = head[np.minimum(cells.start[:-1] + beam.used, len(scores))]
        value = beam.value[:, None] + steps[t] * (beam.total[:, None] + gain)
        rating = np.where(beam.used < size, value - unbearable * broken, -np.inf).ravel()
        kept, dropped = _kept(rating, (beam.name[:, None] + names).ravel(), width)
        worth, least = value.ravel()[dropped] + to_come[t], broken.ravel()[dropped]
        lost.extend((float(least[some].min()), float(worth[some].max())) for some in (least <= 0.0, least > 0.0) if some.any())
        row, cell = np.divmod(kept, len(size))
        history.append((row, cell))
        beam = beam.take(row)
        _advance(beam, cell, cells.groups, due, t)
        beam.broken += np.maximum(-beam.slack[:, :, t], 0).sum(axis=1) + _CEILING * np.maximum(beam.count - upper[:, t], 0).sum(axis=1)
        beam.total += gain[row, cell]
        beam.value += steps[t] * beam.total
        beam.name += names[cell]
    state = 0  # the kept are best first
    broken_at_last, value_at_last = float(beam.broken[0]), float(beam.value[0])
    sequence = np.empty(k, np.int64)
    for t in range(k - 1, -1, -1):
        sequence[t] = history[t][1][state]
        state = int(history[t][0][state])
    rivals = [worth for least, worth in lost if least <= broken_at_last + 1e-9]
    # What is to come was bounded for lists that keep the floors: it says nothing about rivals that break them.
    bound = max([value_at_last, *rivals]) if broken_at_last <= 0.0 or not rivals else np.inf
    return Found(sequence, broken_at_last, value_at_last, bound)


def _scattered(n: int) -> NDArray[np.uint64]:
    """(n,) numbers whose sums hardly ever coincide: SplitMix64 (Steele, Lea, Flood 2014) of 1 … n."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _deadlines(lower: IntArray) -> IntArray:
    """(G, K + 1) the place, from 0, by which a group with so many places must have its next; K: it need not."""
    g, k = lower.shape
    due = np.empty((g, k + 1), np.int64)
    for c in range(k + 1):
        due[:, c] = (lower <= c).sum(axis=1)
    return due


def _missed(beam: _Beam, due: IntArray, attribute: IntArray, t: int) -> FloatArray:
    """(B, G) places that its attribute's floors will miss, summed over the prefixes to come, if the group has place t."""
    rest = beam.slack[:, :, t:]
    now, then = np.maximum(-rest, 0), np.maximum(1 - rest, 0)  # missing with the place given to whom it is due, and to someone else
    extra = np.zeros((*rest.shape[:2], rest.shape[2] + 1))
    np.cumsum(then - now, axis=2, out=extra[:, :, 1:])
    k = beam.slack.shape[2]
    by = due[np.arange(len(due)), np.minimum(beam.count, k)]  # (B, G)
    missed: FloatArray = now.sum(axis=2)[:, attribute] + extra[np.arange(len(by))[:, None], attribute, np.maximum(by - t, 0)]
    return missed


def _advance(beam: _Beam, cell: IntArray, groups: IntArray, due: IntArray, t: int) -> None:
    """Give place t to a cell in each state."""
    rows = np.arange(len(cell))
    beam.used[rows, cell] += 1
    places = np.arange(beam.slack.shape[2])
    for a, of_cell in enumerate(groups):
        group = of_cell[cell]
        by = due[group, beam.count[rows, group]]
        beam.slack[:, a] -= (places >= t) & (places < by[:, None])
        beam.count[rows, group] += 1


def _kept(rating: FloatArray, name: NDArray[Any], width: int) -> tuple[IntArray, IntArray]:
    """The `width` best options, best first, one per name, and those dropped for no other reason than the width."""
    options = np.flatnonzero(rating > -np.inf)
    far: IntArray = np.empty(0, np.int64)
    if len(options) > _ALIKE * width:
        split = np.argpartition(-rating[options], _ALIKE * width)
        options, far = options[split[: _ALIKE * width]], options[split[_ALIKE * width :]]
    options = options[np.argsort(-rating[options], kind="stable")]
    _, first = np.unique(name[options], return_index=True)
    options = options[np.sort(first)]
    return options[:width], np.concatenate((options[width:], far))
