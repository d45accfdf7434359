"""Exact fair ranking of one list: the best order by score among all that give each group its floor at every prefix.

The order is optimal for *every* non-increasing position discount at once (DCG, RBP, precision@k …), because the rule never
reads one. It is the backward rule for unit jobs with deadlines (Smith 1956) applied to ranking with lower bounds (Celis, Straszak,
Vishnoi 2018). This module knows integer group codes and scores; not what a group means, nor what happened on other lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray

GUARD = 1e-9  # 0.57 * 100 is 56.99999999999999 in binary and must still count as 57 places


@dataclass(frozen=True, slots=True)
class FairRanking:
    """The first K places of one list and what floors and ceilings did to them.

    Group ids are flat over all rules: with rules of 3 and 2 groups, group 1 of the second rule is 4, and G is 5.
    """

    order: IntArray  # (K,) indices into the candidates, best first
    binding: IntArray  # (K,) flat id of the group whose floor lifted the result above its rank by score alone, or -1
    prefix: IntArray  # (K,) within how many places that floor wanted it; 0 where `binding` is -1
    shortfall: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # (G,) places that floors asked for and did not get
    excess: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # (G,) places above a ceiling; both empty without groups
    gap: float = 0.0  # at most this share of the best possible utility was missed; 0: proven optimal


def rank_by_score(scores: FloatArray, k: int | None = None) -> IntArray:
    """The indices of the `k` (default: all) highest scores, best first; equal scores in input order.

    Args:
        scores: (n,) without NaN.
        k: how many.

    Returns:
        (min(k, n),) int64. O(n + k log k) for k < n.
    """
    n = len(scores)
    if k is None or k >= n:
        return (-scores).argsort(kind="stable")
    if k < 1:
        return np.empty(0, np.int64)
    descending = -scores
    last = np.partition(descending, k - 1)[k - 1]
    inside = np.flatnonzero(descending <= last)  # k, and what ties with the last of them, in input order
    return inside[np.argsort(descending[inside], kind="stable")[:k]]


def rank_with_floors(scores: FloatArray, groups: NDArray[Any], shares: Sequence[float] | FloatArray, k: int, page: int = 0) -> FairRanking:
    """Rank by score so that among the first j places, for every j ≤ page, each group g has at least floor(j · share_g).

    A group with fewer candidates than its floor asks for gets all of them, and the difference is its shortfall.

    Args:
        scores: (n,) finite floats, higher is better.
        groups: (n,) integer codes 0 … g-1.
        shares: (g,) floor shares, each in [0, 1], together at most 1.
        k: places to fill, at least 1; capped at n.
        page: how many of the first places the floors cover; what stands behind is by score. 0: all k.

    Returns:
        The ranking of K = min(k, n) places. Equal scores stand in input order where the floors allow.

    Raises:
        ValueError: naming the argument that is wrong.

    O(n + K log K) while the floors are met within the first 8 K by score, O(n log n) otherwise.
    """
    floors = checked_shares("shares", shares)
    scores, groups = checked(scores, groups, len(floors), k)
    if page < 0:
        raise ValueError(f"page: must not be negative, got {page}")
    return with_floors(scores, groups, floors, min(k, len(scores)), page)


def with_floors(scores: FloatArray, groups: IntArray, floors: FloatArray, k: int, page: int) -> FairRanking:
    """As `rank_with_floors`, of what is known to be valid, with k ≤ n: looking at it again takes as long as ranking a short list."""
    asked = np.floor((min(page, k) or k) * floors + GUARD).astype(np.int64)  # (g,)
    have = np.bincount(groups, minlength=len(floors))
    due = np.minimum(asked, have)
    codes, nth = _needed(due)
    share = floors[codes]
    deadline = np.ceil((nth + 1) / share)  # min{i : floor(i · share_g) ≥ j} of the j-th best item
    # The floor is defined by the product, and 57 / 0.57 is just above 100: step back where the product is there already. The
    # other way cannot be: a quotient rounded down is short by far less than the guard.
    deadline -= np.floor((deadline - 1) * share + GUARD) > nth
    return _ranked(scores, groups, k, due, codes, nth, deadline.astype(np.int64), asked - due)


def rank_with_minima(scores: FloatArray, groups: NDArray[Any], minima: NDArray[Any], k: int) -> FairRanking:
    """Rank by score so that among the first j places, for every j ≤ K, each group g has at least minima[g, j - 1].

    A group with fewer candidates than its minimum gets all of them, and the difference at K is its shortfall.

    Args:
        scores: (n,) finite floats, higher is better.
        groups: (n,) integer codes 0 … g-1.
        minima: (g, ≥ K) integers, not negative, not decreasing along a row; column j sums to at most j + 1.
        k: places to fill, at least 1; capped at n.

    Returns:
        The ranking of K = min(k, n) places. Equal scores stand in input order where the minima allow.

    Raises:
        ValueError: naming the argument that is wrong.

    O(n + g K + K log K) while the minima are met within the first 8 K by score, O(n log n) otherwise.
    """
    low = np.asarray(minima)
    if low.ndim != 2 or low.dtype.kind not in "iu":
        raise ValueError(f"minima: must be a table of integers, one row per group, got shape {low.shape} of {low.dtype}")
    scores, groups = checked(scores, groups, len(low), k)
    k = min(k, len(scores))
    if low.shape[1] < k:
        raise ValueError(f"minima: need one column per place, got {low.shape[1]} for {k} places")
    steps = low[:, :k].astype(np.int64)  # (g, K) how many more from this place on
    steps[:, 1:] -= low[:, : k - 1]
    if (steps < 0).any():
        raise ValueError("minima: must not be negative, nor decrease from one place to the next")
    if (np.cumsum(steps.sum(axis=0)) > np.arange(1, k + 1)).any():
        raise ValueError("minima: ask for more places than there are in some prefix")
    asked = steps.sum(axis=1)
    have = np.bincount(groups, minlength=len(low))
    due = np.minimum(asked, have)
    codes, nth = _needed(due)
    deadline = np.repeat(np.nonzero(steps)[1] + 1, steps[steps > 0])  # of every place asked for, group by group
    return _ranked(scores, groups, k, due, codes, nth, deadline[(np.cumsum(asked) - asked)[codes] + nth], asked - due)


def _needed(due: IntArray) -> tuple[IntArray, IntArray]:
    """Two (Σ due,) arrays, group by group: the group of each item that (g,) floors need, and which of the group's best it is, from 0."""
    codes = np.arange(len(due)).repeat(due)
    return codes, np.arange(len(codes)) - (due.cumsum() - due)[codes]


def _ranked(
    scores: FloatArray,
    groups: IntArray,
    k: int,
    due: IntArray,
    codes: IntArray,
    nth: IntArray,
    deadline: IntArray,
    shortfall: IntArray,
) -> FairRanking:
    """The best order of `k` places in which the `nth` best item of its group stands within its `deadline`, as a number of places.

    `due` (g,) says how many of each group have one; `codes`, `nth` and `deadline` are (Σ due,), group by group.
    """
    g = len(due)
    none = np.zeros(g, np.int64)
    if not len(codes):
        return FairRanking(rank_by_score(scores, k), np.full(k, -1), np.zeros(k, np.int64), shortfall, none)
    for depth in (k, 8 * k, len(scores)):  # how far down the floors reach: mostly a partial sort is enough
        order = rank_by_score(scores, depth)
        sorted_groups = groups[order]
        counts = np.bincount(sorted_groups, minlength=g)
        if (counts >= due).all():
            break
    members = (sorted_groups.astype(np.int16) if g <= 1 << 15 else sorted_groups).argsort(kind="stable")  # int16: a radix sort
    rank = members[(counts.cumsum() - counts)[codes] + nth]
    by = np.zeros(len(order), np.int64)  # deadline by rank by score; 0: not shown, unless among the best of the rest
    by[rank] = deadline
    by[(by[:k] == 0).nonzero()[0][: k - len(rank)]] = k  # the places left go to the best of the rest, always among the first K
    rank = by.nonzero()[0]  # (K,) rank by score of each item shown
    deadline, places = by[rank], np.arange(k)
    if (deadline <= places).any():  # in order of score, some item would stand behind its deadline
        place = np.empty(k, np.int64)
        place[_places(deadline.tolist())] = places
        rank, deadline = rank[place], deadline[place]
    shown = order[rank]
    # Only an item its own group's floor needs can stand above its rank by score, so the floor that lifted it is its group's.
    lifted = rank > places
    return FairRanking(shown, np.where(lifted, groups[shown], -1), np.where(lifted, deadline, 0), shortfall, none)


def _places(deadline: list[int]) -> list[int]:
    """Give each item the latest free place before its deadline, lowest score first.

    The same as filling the places from the last to the first with the lowest-score item whose deadline allows it, but with no
    heap: the lowest-score item is the first choice everywhere, so it takes its deadline; the next one the latest place left …

    Args:
        deadline: (K,) by descending score; how many places from the front each may stand in.

    Returns:
        (K,) 0-based place of each. Near-linear: taken places are skipped through a path-halving forest.
    """
    free = list(range(len(deadline) + 1))  # free[t]: t, or a lower number of places on the way to the latest free one
    out = [0] * len(deadline)
    for i in range(len(deadline) - 1, -1, -1):
        t = deadline[i]
        while free[t] != t:
            free[t] = t = free[free[t]]
        free[t] = t - 1
        out[i] = t - 1
    return out


def checked_shares(name: str, shares: Sequence[float] | FloatArray) -> FloatArray:
    """The shares as an array.

    Raises:
        ValueError: one is outside [0, 1], or they sum to more than 1.
    """
    p = np.asarray(shares, np.float64)
    if p.ndim != 1 or not ((p >= 0.0) & (p <= 1.0)).all() or p.sum() > 1.0 + GUARD:
        raise ValueError(f"{name}: must be within [0, 1] and sum to at most 1, got {p.tolist()}")
    return p


def checked(scores: FloatArray, groups: NDArray[Any], g: int, k: int) -> tuple[FloatArray, IntArray]:
    """Scores and group codes as arrays of float64 and int64.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    s, c = np.asarray(scores, np.float64), np.asarray(groups)
    if s.ndim != 1 or not np.isfinite(s).all():
        raise ValueError(f"scores: must be one list of finite numbers, got shape {s.shape}")
    if c.shape != s.shape or (c.dtype.kind not in "iu" and len(c)):
        raise ValueError(f"groups: need one integer code per score, got shape {c.shape} of {c.dtype} for {len(s)} scores")
    if len(c) and not (c.min() >= 0 and c.max() < g):
        raise ValueError(f"groups: codes must be within [0, {g}), one share per group; got {c.min()} to {c.max()}")
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    return s, c.astype(np.int64, copy=False)
