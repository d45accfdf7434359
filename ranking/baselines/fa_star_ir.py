"""FA*IR (Zehlike, Bonchi, Castillo, Hajian, Megahed, Baeza-Yates, CIKM 2017): a statistical test of every prefix, and the list that passes.

A prefix of j places with m of a protected group passes when F(m; j, p) ≥ α, F the binomial distribution: a draw that gives each place to
the group with probability p would hold so few with probability of at least α. Testing each of k prefixes at α refuses more than a share
α of such draws; the adjusted α is the largest at which it does not, found from the exact probability.

The method knows one protected group. With several, those that ranking by score gives less than their share are protected together
against all others, with the sum of their shares; within them the best by score comes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.baselines.queues import GUARD, Queues, checked
from ranking.fairness.floors import rank_by_score
from ranking.types import FloatArray, IntArray

_AT_ONCE = 16  # tables tried at a time: few enough to be quick each, many enough to need few rounds


def fa_star_ir(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.1) -> IntArray:
    """The best by score, except where the protected would fall below the table of the adjusted α: then the best of those.

    Args:
        scores: (n,).
        groups: (n,) codes.
        shares: (g,) floors, together at most 1.
        k: places.
        strength: the test's significance α, within (0, 1); larger is stricter.

    Returns:
        (min(k, n),) int64. Protected candidates that are not there leave their places to others.
    """
    if not 0.0 < strength < 1.0:
        raise ValueError(f"strength: a significance must be within (0, 1), got {strength}")
    scores, groups, shares = checked(scores, groups, shares, k)
    top = rank_by_score(scores, k)
    protected = np.bincount(groups[top], minlength=len(shares)) < len(top) * shares - GUARD
    p = min(float(shares[protected].sum()), 1.0)
    if p == 0.0:
        return top
    queues = Queues(scores, protected[groups].astype(np.int64), np.array([0.0, p]), k)
    either, first = np.zeros(2, np.int64), np.array([1, 0])
    for least in m_table(queues.k, p, adjusted_alpha(queues.k, p, strength)).tolist():
        queues.take(first if queues.counts[1] < least else either)
    return queues.order()


def m_table(k: int, p: float, alpha: float) -> IntArray:
    """(k,) least number of protected among the first 1 … k places: the smallest m with F(m; j, p) ≥ α (definition 2, table 1)."""
    least: IntArray = np.count_nonzero(_cdf(k, p) < alpha, axis=1)
    return least


def failure_probability(table: NDArray[Any], p: float) -> float:
    """How often a list that gives each place to the group with probability p fails an m-table at any prefix, exactly.

    Args:
        table: (k,) least counts, each at most its place.
        p: within [0, 1].

    O(k²).
    """
    return float(_failure_probabilities(np.asarray(table)[None, :], p)[0])


def adjusted_alpha(k: int, p: float, alpha: float) -> float:
    """The significance of each prefix's test at which all k together fail a fair list with probability of at most `alpha`.

    The largest such (section 4.3, without its linear search): the table changes only where α passes a value of F, and with each change
    it fails more lists, so the sorted values are searched, many at a time.
    """
    cdf = _cdf(k, p)
    steps = np.sort(np.append(cdf[cdf < alpha], alpha))
    low, high = 0, len(steps)  # the last known to be safe (at the lowest value of F nothing is ever due), and the first known not to be
    while high - low > 1:
        at = np.arange(low + 1, high, max(1, (high - low) // _AT_ONCE))
        tables = np.count_nonzero(cdf < steps[at, None, None], axis=2)
        safe = np.count_nonzero(_failure_probabilities(tables, p) <= alpha + GUARD)
        low, high = int(at[safe - 1]) if safe else low, int(at[safe]) if safe < len(at) else high
    return float(steps[low])


def _failure_probabilities(tables: NDArray[Any], p: float) -> FloatArray:
    """(c,) of (c, k) tables: the probability of each count among the lists that have not failed yet, place by place."""
    c, k = tables.shape
    alive = np.zeros((c, k + 1))
    alive[:, 0] = 1.0
    counts = np.arange(k + 1)
    for least in tables.T:
        alive[:, 1:] = (1.0 - p) * alive[:, 1:] + p * alive[:, :-1]
        alive[:, 0] *= 1.0 - p
        alive *= counts >= least[:, None]
    failed: FloatArray = 1.0 - alive.sum(axis=1)
    return failed


def _cdf(k: int, p: float) -> FloatArray:
    """(k, k + 1) F(m; j, p) for j = 1 … k and m = 0 … k."""
    pmf = np.zeros((k + 1, k + 1))
    pmf[0, 0] = 1.0
    for j in range(k):
        pmf[j + 1] = (1.0 - p) * pmf[j]
        pmf[j + 1, 1:] += p * pmf[j, :-1]
    return np.cumsum(pmf[1:], axis=1)
