"""FairCo (Morik, Singh, Hong, Joachims, SIGIR 2020): the one arm that remembers, ranking by score + gain · error of the exposure so far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.baselines.queues import checked, target_shares
from ranking.fairness.amortised import Account, Delta, delivered, prices, promised, settle
from ranking.fairness.floors import rank_by_score
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import Controller
from ranking.types import FloatArray, IntArray


class FairCo:
    """A run of lists over the same groups.

    The error of a group is how far its exposure per exposure promised lies below that of the group best off, times the lists so far.
    The price is that of the gateway's `fairco` controller, so that both mean the same. Where shares sum to less than 1 the promise is
    that of `target_shares`: FairCo levels groups with each other and knows no group without a claim.
    """

    def __init__(self, groups: int, *, strength: float = 0.01) -> None:
        """For `groups` codes; `strength` is the gain, in units of the score per list of exposure owed."""
        self._controller = Controller("fairco", gain=strength)
        self._accounts = [Account() for _ in range(groups)]
        self._prices = np.zeros(groups)  # (g,) added to the scores of the next list

    def rank(self, scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int) -> IntArray:
        """(min(k, n),) order of the next list, and remember it. Arguments as for every arm; O(n log n)."""
        scores, groups, shares = checked(scores, groups, shares, k)
        if len(shares) != len(self._accounts):
            raise ValueError(f"shares: this run has {len(self._accounts)} groups, got {len(shares)}")
        if not len(scores):
            return np.empty(0, np.int64)
        order = rank_by_score(scores + self._prices[groups], k)
        by_score = np.bincount(groups[rank_by_score(scores, k)], minlength=len(shares))
        claims = ListGroups("", ("",) * len(shares), groups, target_shares(shares, by_score), np.ones(len(shares)))
        owed, got = promised(claims, k), delivered(claims, order)
        self._accounts = [
            settle(account, Delta(1.0, float(o), float(e)), self._controller)
            for account, o, e in zip(self._accounts, owed, got, strict=True)
        ]
        self._prices = prices(self._accounts, self._controller)
        return order
