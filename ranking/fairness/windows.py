"""Exact two-sided ranking of one list: the best order that keeps each of several disjoint groups between a floor and a ceiling.

The j-th best item of a group must stand within a window of places: not before the ceiling allows j items, nor behind the place where the
floor asks for j. Unlike with floors alone, no order is best for every position weight, so the weights are an input. It is an assignment
problem (Celis, Straszak, Vishnoi 2018), solved here by cancelling negative cycles from a good start: the nodes are the K places, not the n
items, so that a list that is nearly right, as a greedy one is, costs little more than its proof of optimality.
This module knows integer group codes and scores; not what a group means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.cells import cells_of, ranking_of
from ranking.fairness.floors import GUARD, FairRanking, checked, checked_shares, rank_by_score, rank_with_floors, rank_with_minima
from ranking.types import FloatArray, IntArray

_ROUNDS = 6  # of relaxation between two looks for a cycle: a look costs about as much


def rank_with_windows(
    scores: FloatArray,
    groups: NDArray[Any],
    floors: Sequence[float] | FloatArray,
    ceilings: Sequence[float] | FloatArray,
    k: int,
    weights: FloatArray,
    page: int = 0,
) -> FairRanking:
    """Rank so that among the first j places, j ≤ page, each group g has at least floor(j · floor_g) and at most ceil(j · ceiling_g).

    A group with fewer candidates than its floor asks for gets all of them. Where the other groups run out of candidates, ceilings give way:
    the places above them, summed over all prefixes, are as few as they can be, and of those lists it is the best.

    Args:
        scores: (n,) finite floats, higher is better.
        groups: (n,) integer codes 0 … g-1.
        floors: (g,) shares within [0, 1], together at most 1.
        ceilings: (g,) shares within [0, 1], none below its floor.
        k: places to fill, at least 1; capped at n.
        weights: (≥ K,) what a place is worth, not negative and not increasing: the ranking has the largest Σ weight · score of the page.
        page: how many of the first places floors and ceilings cover; what stands behind is by score. 0: all k.

    Returns:
        The ranking of K = min(k, n) places. Within a group it is by score.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    low, high = checked_shares("floors", floors), np.asarray(ceilings, np.float64)
    if high.shape != low.shape or not ((high <= 1.0) & (high >= low - GUARD)).all():
        raise ValueError(f"ceilings: need one per group within [its floor, 1], got {high.tolist()} for floors of {low.tolist()}")
    scores, groups = checked(scores, groups, len(low), k)
    if page < 0:
        raise ValueError(f"page: must not be negative, got {page}")
    if not len(scores):
        return rank_with_floors(scores, groups, low, k)
    k = min(k, len(scores))
    covered = min(page, k) or k
    places = np.arange(1, covered + 1)
    lower = np.floor(np.outer(low, places) + GUARD).astype(np.int64)  # (g, covered)
    upper = np.ceil(np.outer(high, places) - GUARD).astype(np.int64)
    return with_rest(rank_between(scores, groups, lower, upper, weights[:covered]), scores, k)


def with_rest(first: FairRanking, scores: FloatArray, k: int) -> FairRanking:
    """The list extended to `k` places with the best of the candidates not yet on it."""
    more = k - len(first.order)
    if more < 1:
        return first
    left = np.ones(len(scores), bool)
    left[first.order] = False
    rest = np.flatnonzero(left)
    return FairRanking(
        np.concatenate((first.order, rest[rank_by_score(scores[rest], more)])),
        np.concatenate((first.binding, np.full(more, -1))),
        np.concatenate((first.prefix, np.zeros(more, np.int64))),
        first.shortfall,
        first.excess,
        first.gap,
    )


def rank_between(scores: FloatArray, groups: IntArray, lower: IntArray, upper: IntArray, weights: FloatArray) -> FairRanking:
    """The same for integer bounds on every prefix.

    Args:
        scores: (n,) finite.
        groups: (n,) codes.
        lower: (g, K) least places among the first 1 … K, K ≤ n: not decreasing, each column within the number of places.
        upper: (g, K) most places: not decreasing, not below `lower`.
        weights: (K,) not negative, not increasing.

    Raises:
        ValueError: the weights are wrong.
    """
    k = lower.shape[1]
    if weights.shape != (k,) or not (np.isfinite(weights).all() and (weights >= 0).all() and (np.diff(weights) <= 0).all()):
        raise ValueError(f"weights: need one for each of {k} places, finite, not negative and not increasing")
    have = np.bincount(groups, minlength=len(lower))
    fair = rank_with_minima(scores, groups, lower, k)
    count = np.zeros_like(lower)
    count[groups[fair.order], np.arange(k)] = 1
    if (np.cumsum(count, axis=1) <= upper).all():
        return fair  # best with the floors alone, for every weight, and within the ceilings
    cells = cells_of(scores, groups[None], len(lower))
    floors = np.minimum(lower, have[:, None])
    most = np.minimum(upper[:, -1], have)
    if (np.minimum(upper, have[:, None]).sum(axis=0) < np.arange(1, k + 1)).any():
        most = np.minimum(have, k)  # ceilings will give way
    items = _items(scores[cells.by_score[cells.rank]], cells.start, most, floors, upper)
    order = _improved(_start(items, np.arange(1, k + 1) - floors.sum(axis=0)), items, weights)
    return ranking_of(cells, items.group[order], lower, upper)


@dataclass(frozen=True, slots=True)
class _Items:
    """The m items that may be shown, group by group, best first."""

    score: FloatArray  # (m,)
    group: IntArray  # (m,)
    first: IntArray  # (m,) first place that the ceiling allows, from 0; K: none does
    last: IntArray  # (m,) last place that the floor allows, from 0; K: the floor does not need the item
    start: IntArray  # (g + 1,)


def _items(score: FloatArray, start: IntArray, most: IntArray, lower: IntArray, upper: IntArray) -> _Items:
    group = np.repeat(np.arange(len(most)), most)
    begin = np.concatenate(([0], np.cumsum(most)))
    nth = np.arange(len(group)) - begin[group]
    # Number of prefixes that allow, or need, fewer than the nth + 1 items up to this one.
    first = (upper[group] <= nth[:, None]).sum(axis=1)
    last = (lower[group] <= nth[:, None]).sum(axis=1)
    return _Items(score[start[group] + nth], group, first, last, begin)


def _start(items: _Items, slack: IntArray) -> IntArray:
    """(K,) a list that keeps every floor: place by place the best item within its window that leaves room for all floors' items.

    Args:
        items: m of them.
        slack: (K,) places of each prefix that no floor claims.
    """
    k = len(slack)
    left: list[int] = slack.tolist()
    score, first, last = items.score.tolist(), items.first.tolist(), items.last.tolist()
    ends = items.start[1:].tolist()
    heads = {g: i for g, i in enumerate(items.start[:-1].tolist()) if i < ends[g]}
    order = np.empty(k, np.int64)
    tight = -1  # whoever comes now must be due by this place, the first prefix of which floors claim every place left
    for t in range(k):
        if tight < t:
            tight = next((u for u in range(t, k) if left[u] <= 0), k)
        due = [(score[i], -g) for g, i in heads.items() if last[i] <= tight and first[i] <= t]
        if not due:  # ceilings must give way
            due = [(score[i], -g) for g, i in heads.items() if last[i] <= tight]
        g = -max(due)[1]
        i = heads[g]
        order[t] = i
        heads[g] += 1
        if heads[g] == ends[g]:
            del heads[g]
        for u in range(t, min(last[i], k)):
            left[u] -= 1
            if left[u] == 0 and u < tight:
                tight = u
    return order


class _Exchange:
    """The list as a graph: an edge t → u moves the item of place t to place u, at a cost; node K is the pool of items not shown.

    A cycle is an exchange that keeps the list full, and the list is best when no cycle costs less than nothing (Klein 1967).
    """

    def __init__(self, order: IntArray, items: _Items, weights: FloatArray) -> None:
        self.order = order.copy()
        places = np.arange(len(order))
        early = np.maximum(items.first[:, None] - places, 0)  # (m, K) places before its window
        # (m, K) of each item at each place. Where ceilings must give way, one place early costs more than all utility there is to gain.
        self._cost = -np.outer(items.score - items.score.min(), weights)
        worst = -self._cost.min() or 1.0
        if early[order, places].any():
            self._cost += early * (2.0 * worst * len(order))
        else:
            self._cost[early > 0] = np.inf
        self._cost[items.last[:, None] < places] = np.inf
        self._optional = items.last == len(order)
        self._unused = np.ones(len(items.score), bool)
        self._unused[order] = False
        self.edges = np.zeros((len(order) + 1, len(order) + 1))
        self.least = 1e-13 * max(worst, float(self._cost.max(where=np.isfinite(self._cost), initial=0.0)))  # below this it is rounding
        self._connect(places)

    def _connect(self, places: IntArray) -> None:
        """The edges out of these places, and those out of the pool."""
        k = len(self.order)
        item = self.order[places]
        here = self._cost[item, places]
        self.edges[places, :k] = self._cost[item] - here[:, None]
        self.edges[places, k] = np.where(self._optional[item], -here, np.inf)
        pool = np.flatnonzero(self._unused)
        self.edges[k, :k] = np.inf
        if len(pool):
            best = self._cost[pool].argmin(axis=0)
            self._newcomer = pool[best]  # (K,)
            self.edges[k, :k] = self._cost[self._newcomer, np.arange(k)]

    def cancel(self, cycles: list[list[int]]) -> None:
        """Move the items along the edges of disjoint cycles, each given as its nodes in order."""
        k = len(self.order)
        old = self.order.copy()
        changed = []
        for cycle in cycles:
            for t, u in zip(cycle, cycle[1:] + cycle[:1], strict=True):
                if u == k:
                    self._unused[old[t]] = True
                    continue
                self.order[u] = self._newcomer[u] if t == k else old[t]
                self._unused[self.order[u]] = False
                changed.append(u)
        self._connect(np.array(changed))


def _improved(order: IntArray, items: _Items, weights: FloatArray) -> IntArray:
    """The best list, from a feasible one: exchanges are found by Bellman and Ford's relaxation, until none is left.

    Args:
        order: (K,) index into `items` of each place.
        items: m of them.
        weights: (K,)

    Returns:
        (K,), the best but for rounding.
    """
    graph = _Exchange(order, items, weights)
    nodes = len(order) + 1
    # Labels of the right size from the start: those of moving every item one place up. Of scores without what all have in common, as
    # the costs are: beside a large offset their rounding would pass for improvements, one after the other for ever.
    score = items.score[order] - items.score.min()
    label = np.zeros(nodes)
    label[: nodes - 2] = -np.cumsum((score[1:] * (weights[:-1] - weights[1:]))[::-1])[::-1]
    parent = np.full(nodes, -1)
    through = np.empty((nodes, nodes))
    while True:
        for _ in range(_ROUNDS):
            np.add(graph.edges, label[:, None], out=through)
            better = through.min(axis=0)
            now = np.flatnonzero(better < label - graph.least)
            if not len(now):
                return graph.order
            parent[now] = through[:, now].argmin(axis=0)
            label[now] = better[now]
        cycles = [c for c in _cycles(parent.tolist()) if graph.edges[c, c[1:] + c[:1]].sum() < 0.0]
        if cycles:
            graph.cancel(cycles)
            parent[:] = -1


def _cycles(parent: list[int]) -> list[list[int]]:
    """The cycles of a graph in which each node has at most one parent, from parent to child."""
    seen = [-1] * len(parent)
    out = []
    for root in range(len(parent)):
        path, node = [], root
        while node >= 0 and seen[node] < 0:
            seen[node] = root
            path.append(node)
            node = parent[node]
        if node >= 0 and seen[node] == root:
            out.append(path[path.index(node) :][::-1])
    return out
