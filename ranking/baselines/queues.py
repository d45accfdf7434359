"""The candidates of one list as one queue per group: what the comparison arms, which differ only in whose turn it is, have in common.

An arm never prefers a lower score to a higher one within a group, so at every place it chooses among the heads of the queues: g
comparisons, however many candidates there are. This module knows scores and group codes; not whose turn it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.floors import rank_by_score
from ranking.types import FloatArray, IntArray

GUARD = 1e-9  # 0.57 * 100 is 56.99999999999999 in binary and must still count as 57 places


class Queues:
    """A list being filled from the front. Made for one list, used up by filling it.

    Attributes:
        k: places there are: as many as asked for, or all candidates.
        shares: (g,) as given.
        counts: (g,) how many of each group are shown so far.
        head: (g,) rank by score, from 0, of each group's next item; n where it has none left.
        ranks: the ranks by score of what is shown, from the front.
    """

    def __init__(self, scores: FloatArray, groups: NDArray[Any], shares: Sequence[float] | FloatArray, k: int) -> None:
        s, codes, self.shares = checked(scores, groups, shares, k)
        n, g = len(s), len(self.shares)
        self.k = min(k, n)
        self._by_score = rank_by_score(s)
        self._sorted = s[self._by_score]
        codes = codes[self._by_score]
        self._codes = codes
        sizes = np.bincount(codes, minlength=g)
        self._members = np.append(np.argsort(codes, kind="stable"), n)  # ranks by score, group after group
        self._end = np.cumsum(sizes)
        self._next = self._end - sizes
        self.counts = np.zeros(g, np.int64)
        self.head: IntArray = np.where(sizes > 0, self._members[self._next], n)
        self._turn = n + 1  # more than any rank
        self._gone = self._turn << 32
        self._key = np.where(sizes > 0, self.head, self._gone)
        self.ranks: list[int] = []

    def target(self) -> FloatArray:
        """(g,) the shares filled up to 1, see `target_shares`; O(g²) at worst, so ask once."""
        return target_shares(self.shares, np.bincount(self._codes[: self.k], minlength=len(self.shares)))

    def take(self, turn: NDArray[Any]) -> int:
        """Show the best by score of the groups whose (g,) `turn` is lowest among those with items left; the group's code."""
        group = int((self._key + turn * self._turn).argmin())
        self.ranks.append(int(self.head[group]))
        self.counts[group] += 1
        self._next[group] += 1
        left = self._next[group] < self._end[group]
        self.head[group] = self._members[self._next[group]] if left else self._turn - 1
        self._key[group] = self.head[group] if left else self._gone
        return group

    def take_highest(self, value: FloatArray) -> int:
        """Show the next item of the group whose (g,) `value` is highest, among equal ones the best by score; the group's code."""
        value = np.where(self._key < self._gone, value, -np.inf)
        return self.take(value < value.max())

    def scaled(self) -> FloatArray:
        """(n + 1,) by rank: scores moved to 0 … 1 over the list, so that a strength means the same on all lists; 0 where all are equal."""
        out = np.zeros(len(self._sorted) + 1)
        if len(self._sorted) and (span := self._sorted[0] - self._sorted[-1]) > 0.0:
            out[:-1] = (self._sorted - self._sorted[-1]) / span
        return out

    def order(self, ranks: Sequence[int] | None = None) -> IntArray:
        """(k,) indices into the candidates of what is shown, or of these ranks by score."""
        return self._by_score[np.asarray(self.ranks if ranks is None else ranks, np.int64)[: self.k]]


def target_shares(shares: FloatArray, counts: IntArray) -> FloatArray:
    """A whole distribution from floors: the shares given, and the rest as ranking by score would give it.

    Groups above their floor keep their proportions to each other: max(share, c · count), with the c that makes the sum 1. Shares
    that sum to 1 come back as they are.

    Args:
        shares: (g,) in [0, 1], together at most 1.
        counts: (g,) how many places ranking by score gives each group.

    Returns:
        (g,) summing to 1. O(g²) at worst.
    """
    by_score = counts / max(int(counts.sum()), 1)
    at_floor = np.zeros(len(shares), bool)
    scale = 1.0
    while (raised := ~at_floor & (scale * by_score <= shares)).any():
        at_floor |= raised
        free = float(by_score[~at_floor].sum())
        rest = 1.0 - float(shares[at_floor].sum())
        if free <= 0.0 or rest <= GUARD:  # the shares sum to 1 already, or the list is empty
            return shares / max(float(shares.sum()), GUARD)
        scale = rest / free
    return np.where(at_floor, shares, scale * by_score)


def checked(
    scores: FloatArray, groups: NDArray[Any], shares: Sequence[float] | FloatArray, k: int
) -> tuple[FloatArray, IntArray, FloatArray]:
    """The arguments every arm takes, as arrays.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    s, c, p = np.asarray(scores, np.float64), np.asarray(groups), np.asarray(shares, np.float64)
    if s.ndim != 1 or not np.isfinite(s).all():
        raise ValueError(f"scores: must be one list of finite numbers, got shape {s.shape}")
    if c.shape != s.shape or (c.dtype.kind not in "iu" and len(c)):
        raise ValueError(f"groups: need one integer code per score, got shape {c.shape} of {c.dtype} for {len(s)} scores")
    if p.ndim != 1 or not len(p) or not ((p >= 0.0) & (p <= 1.0)).all() or p.sum() > 1.0 + GUARD:
        raise ValueError(f"shares: need one per group, within [0, 1] and together at most 1, got {p.tolist()}")
    if len(c) and not (c.min() >= 0 and c.max() < len(p)):
        raise ValueError(f"groups: codes must be within [0, {len(p)}), one share per group; got {c.min()} to {c.max()}")
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    return s, c.astype(np.int64, copy=False), p


def unit(strength: float) -> float:
    """A strength that weighs two things against each other.

    Raises:
        ValueError: outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength: must be within [0, 1], got {strength}")
    return strength
