"""Exact fair ranking of one list: the best order by score among all that give each group its floor at every prefix.

The order is optimal for *every* non-increasing position discount at once (DCG, RBP, precision@k …), because the rule never
reads one. It is the backward rule for unit jobs with deadlines (Smith 1956) applied to ranking with lower bounds (Celis, Straszak,
Vishnoi 2018). This module knows integer group codes and scores; not what a group means, nor what happened on other lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray

_GUARD = 1e-9  # 0.57 * 100 is 56.99999999999999 in binary and must still count as 57 places


@dataclass(frozen=True, slots=True)
class FairRanking:
    """The first K places of one list and what the floors did to them."""

    order: IntArray  # (K,) indices into the candidates, best first
    binding: IntArray  # (K,) group code whose floor lifted the result above its rank by score alone, or -1
    shortfall: IntArray  # (g,) places the floors asked for at K that the group has no candidates for


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
        return np.argsort(-scores, kind="stable")
    if k < 1:
        return np.empty(0, np.int64)
    descending = -scores
    last = np.partition(descending, k - 1)[k - 1]
    inside = np.flatnonzero(descending <= last)  # k, and what ties with the last of them, in input order
    return inside[np.argsort(descending[inside], kind="stable")[:k]]


def rank_with_floors(scores: FloatArray, groups: NDArray[Any], shares: Sequence[float] | FloatArray, k: int) -> FairRanking:
    """Rank by score so that among the first j places, for every j ≤ k, each group g has at least floor(j · share_g).

    A group with fewer candidates than its floor asks for gets all of them, and the difference is its shortfall.

    Args:
        scores: (n,) finite floats, higher is better.
        groups: (n,) integer codes 0 … g-1.
        shares: (g,) floor shares, each in [0, 1], together at most 1.
        k: places to fill, at least 1; capped at n.

    Returns:
        The ranking of K = min(k, n) places. Equal scores stand in input order where the floors allow.

    Raises:
        ValueError: naming the argument that is wrong.

    O(n + K log K) while the floors are met within the first 8 K by score, O(n log n) otherwise.
    """
    scores, groups, floors = _checked(scores, groups, shares, k)
    k = min(k, len(scores))
    asked = np.floor(k * floors + _GUARD).astype(np.int64)  # (g,)
    if not asked.any():
        return FairRanking(rank_by_score(scores, k), np.full(k, -1), np.zeros(len(floors), np.int64))
    due = np.minimum(asked, np.bincount(groups, minlength=len(floors)))  # (g,) how many of each group must be among the K
    shortfall = asked - due

    for depth in (k, 8 * k, len(scores)):  # how far down the floors reach: mostly a partial sort is enough
        order = rank_by_score(scores, depth)
        if (np.bincount(groups[order], minlength=len(floors)) >= due).all():
            break
    rank, deadline = _needed(groups[order], due, floors)
    others = np.ones(k, bool)
    others[rank[rank < k]] = False
    others = np.flatnonzero(others)[: k - len(rank)]  # the places left go to the best of the rest, always among the first K
    rank = np.concatenate((rank, others))  # (K,) rank by score of each item shown
    place = np.argsort(rank)
    rank, deadline = rank[place], np.concatenate((deadline, np.full(len(others), k)))[place]
    if (deadline <= np.arange(k)).any():  # in order of score, some item would stand behind its deadline
        back = np.argsort(_places(deadline.tolist()))
        rank = rank[back]
    shown = order[rank]
    # Only an item its own group's floor needs can stand above its rank by score, so the floor that lifted it is its group's.
    return FairRanking(shown, np.where(rank > np.arange(k), groups[shown], -1), shortfall)


def _needed(groups: IntArray, due: IntArray, floors: FloatArray) -> tuple[IntArray, IntArray]:
    """The items the floors need, and by when each must have been shown, as a number of places.

    The j-th best item of group g has the deadline min{i : floor(i · share_g) ≥ j}, for j ≤ due_g.

    Args:
        groups: (m,) codes in order of score, at least due_g of each group.
        due: (g,) how many of each group the floors need.
        floors: (g,) shares.

    Returns:
        Two (Σ due,) int64 arrays: indices into `groups`, and deadlines.
    """
    counts = np.bincount(groups, minlength=len(floors))
    members = np.argsort(groups.astype(np.int16) if len(floors) <= 1 << 15 else groups, kind="stable")  # int16: a radix sort
    codes = np.repeat(np.arange(len(floors)), due)  # (r,) group of each needed item
    nth = np.arange(len(codes)) - (np.cumsum(due) - due)[codes]  # (r,) 0-based within its group
    share = floors[codes]
    place = np.ceil((nth + 1) / share)
    # The floor is defined by the product, and 57 / 0.57 is just above 100: step back where the product is there already. The
    # other way cannot be: a quotient rounded down is short by far less than the guard.
    place -= np.floor((place - 1) * share + _GUARD) > nth
    return members[(np.cumsum(counts) - counts)[codes] + nth], place.astype(np.int64)


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


def _checked(
    scores: FloatArray, groups: NDArray[Any], shares: Sequence[float] | FloatArray, k: int
) -> tuple[FloatArray, IntArray, FloatArray]:
    s, c, p = np.asarray(scores, np.float64), np.asarray(groups), np.asarray(shares, np.float64)
    if s.ndim != 1 or not np.isfinite(s).all():
        raise ValueError(f"scores: must be one list of finite numbers, got shape {s.shape}")
    if c.shape != s.shape or (c.dtype.kind not in "iu" and len(c)):
        raise ValueError(f"groups: need one integer code per score, got shape {c.shape} of {c.dtype} for {len(s)} scores")
    if p.ndim != 1 or not ((p >= 0.0) & (p <= 1.0)).all() or p.sum() > 1.0 + _GUARD:
        raise ValueError(f"shares: must be within [0, 1] and sum to at most 1, got {p.tolist()}")
    if len(c) and not (c.min() >= 0 and c.max() < len(p)):
        raise ValueError(f"groups: codes must be within [0, {len(p)}), one share per group; got {c.min()} to {c.max()}")
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    return s, c.astype(np.int64, copy=False), p
