"""The four deterministic arms of Geyik, Ambler and Kenthapadi (KDD 2019, section 4.1, algorithms 1 to 3).

At place j a group with share p has the least count floor(j p) and the largest count ceil(j p). A group without candidates left leaves
its turn to the others. There is nothing to tune: `strength` is ignored.

The paper has whole distributions only. Where the shares sum to less than 1, least counts are those of the shares; largest counts and
urgencies are those of `target_shares`, which gives the rest as ranking by score would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.baselines.queues import GUARD, Queues
from ranking.types import FloatArray, IntArray


def det_greedy(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.0) -> IntArray:
    """DetGreedy: who is below its least count first; else the best by score of those below their largest count."""
    del strength
    return _filled(Queues(scores, groups, shares, k), np.zeros_like)


def det_cons(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.0) -> IntArray:
    """DetCons: as DetGreedy, but of those below their largest count the one with the lowest ceil(j p) / p: who needs it soonest."""
    del strength
    return _filled(Queues(scores, groups, shares, k), lambda due: due)


def det_relaxed(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.0) -> IntArray:
    """DetRelaxed: as DetCons by the place ceil(ceil(j p) / p), so that more groups tie and the best by score is chosen."""
    del strength
    return _filled(Queues(scores, groups, shares, k), lambda due: np.ceil(due - GUARD))


def det_const_sort(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.0) -> IntArray:
    """DetConstSort: each group's next item when its least count rises, moved up past lower scores while those may still stand lower.

    As in the paper j runs past k to fill the places that no least count asks for within k. Places that nobody can claim (shares that
    sum to less than 1, groups short of candidates) go to the best by score that are left, moved up by the same rule.
    """
    del strength
    queues = Queues(scores, groups, shares, k)
    g, whole = len(queues.shares), queues.shares.sum() > 1.0 - GUARD
    shown: list[int] = []  # ranks by score, as they stand
    until: list[int] = []  # within how many places each must stay

    def show(turn: NDArray[Any], last: int) -> int:
        group = queues.take(turn)
        rank, at = queues.ranks[-1], len(shown)
        while at > 0 and until[at - 1] > at and shown[at - 1] > rank:
            at -= 1
        shown.insert(at, rank)
        until.insert(at, last)
        return group

    places = queues.k + (g if whole else 0)  # Σ floor(j p) > j - g, so by then everything is claimed unless a group is short
    rising = np.diff(_least(queues, places), axis=0, prepend=np.zeros((1, g), np.int64)) > 0
    for j in np.flatnonzero(rising.any(axis=1)).tolist():
        if len(shown) >= queues.k:
            break
        risen = rising[j] & (queues.head < len(scores))
        for _ in range(np.count_nonzero(risen)):
            risen[show(~risen, j + 1)] = False
    nobody = np.zeros(g, np.int64)
    while len(shown) < queues.k:
        show(nobody, queues.k)
    return queues.order(shown)


def _filled(queues: Queues, urgency: Callable[[FloatArray], FloatArray]) -> IntArray:
    """The list in which, of those below their largest count, the group with the lowest urgency has the next turn.

    Args:
        queues: not begun.
        urgency: of the (k, g) places, not rounded, at which a group's largest count becomes its least count: ceil(j p) / p.
    """
    least, target = _least(queues, queues.k), queues.target()
    largest = np.ceil(np.outer(np.arange(1, queues.k + 1), target) - GUARD).astype(np.int64)
    due = urgency(np.divide(largest, target, out=np.full(largest.shape, np.inf), where=target > 0.0))  # never without a share
    turn = 1 + (due[:, None, :] < due[:, :, None] - GUARD).sum(axis=2)  # (k, g) how many are due earlier
    last = len(target) + 1
    for j in range(queues.k):
        queues.take(np.where(queues.counts < least[j], 0, np.where(queues.counts < largest[j], turn[j], last)))
    return queues.order()


def _least(queues: Queues, places: int) -> IntArray:
    """(places, g) least counts after each place."""
    return np.floor(np.outer(np.arange(1, places + 1), queues.shares) + GUARD).astype(np.int64)
