"""Arms that trade score against the mix of groups, one place at a time: xQuAD, calibrated recommendations, MMR.

`strength` is the weight λ of the mix, within [0, 1]; 0 is ranking by score. Scores are first moved to 0 … 1 over the list: probabilities
of a thousandth and bids of millions of micros would each need a λ of their own. These arms promise nothing at any prefix. The target mix
is the shares, filled up to 1 by `target_shares`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.baselines.queues import Queues, unit
from ranking.types import FloatArray, IntArray

_ALPHA = 0.01  # Steck's: how much of the target is mixed into a list's distribution, so that a group not shown yet has no infinite KL


def xquad(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.5) -> IntArray:
    """Smooth xQuAD (Abdollahpouri, Burke, Mobasher, FLAIRS 2019, equations 1 to 3).

    Next is the highest (1 - λ) score + λ target_g (1 - share of the places so far that g has); before the first place g has none.
    """
    weight = unit(strength)
    queues = Queues(scores, groups, shares, k)
    scaled, target = queues.scaled(), queues.target()
    for shown in range(queues.k):
        missing = target * (1.0 - queues.counts / max(shown, 1))
        queues.take_highest((1.0 - weight) * scaled[queues.head] + weight * missing)
    return queues.order()


def calibrated(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.5) -> IntArray:
    """Calibrated recommendations (Steck, RecSys 2018, sections 3 and 4), the greedy rule.

    Next is whose addition makes (1 - λ) Σ score - λ KL(target ‖ (1 - α) mix of the list + α target) highest, α = .01.
    """
    weight = unit(strength)
    queues = Queues(scores, groups, shares, k)
    scaled, target = queues.scaled(), queues.target()
    smooth = np.where(target > 0.0, _ALPHA * target, 1.0)  # a group nobody wants adds nothing to the KL, however often it is shown
    for size in range(1, queues.k + 1):
        # Adding one of g changes the mix of all groups, but against adding nobody only the term of g differs.
        more, same = ((1.0 - _ALPHA) * (queues.counts + one) / size + smooth for one in (1, 0))
        queues.take_highest((1.0 - weight) * scaled[queues.head] + weight * target * np.log(more / same))
    return queues.order()


def mmr(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.5) -> IntArray:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), two items being similar (1) or not (0) by their group.

    Next is the highest (1 - λ) score - λ [its group is shown already]. It looks at no shares.
    """
    weight = unit(strength)
    queues = Queues(scores, groups, shares, k)
    scaled = queues.scaled()
    for _ in range(queues.k):
        queues.take_highest((1.0 - weight) * scaled[queues.head] - weight * (queues.counts > 0))
    return queues.order()
