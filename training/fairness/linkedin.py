"""The simulation of Geyik, Ambler and Kenthapadi (KDD 2019, section 5.1), and how long each arm takes for one list.

Its setting: a target for every list, its shares drawn from U(0, 1) and divided by their sum; as many candidates of each group as the
list has places, with scores from U(0, 1); ranked at full length. Relevance is the score, so NDCG says how much of it a ranker gave away.
Nothing is tuned: the arms that need a strength are not in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.baselines.arms import ARMS, Arm
from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_by_score, rank_with_floors
from ranking.metrics import infeasible_index, max_skew, min_skew, ndkl
from ranking.types import FloatArray, IntArray

EXACT = "exact_floors"
SIMULATED = ("det_greedy", "det_cons", "det_relaxed", "det_const_sort", EXACT)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What one ranker did on the simulated lists: (lists,) each, the same lists for all."""

    missed: IntArray  # prefixes at which some floor is missed; 0: the list is feasible
    ndkl: FloatArray
    min_skew: FloatArray
    max_skew: FloatArray
    ndcg: FloatArray

    def summary(self) -> dict[str, float]:
        """Share of the lists that miss a floor, means of NDKL and NDCG, medians of the skews: a group not shown has a skew of -inf."""
        return {
            "infeasible": float((self.missed > 0).mean()),
            "ndkl": float(self.ndkl.mean()),
            "min_skew": float(np.median(self.min_skew)),
            "max_skew": float(np.median(self.max_skew)),
            "ndcg": float(self.ndcg.mean()),
        }


def exact_floors(scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = 0.0) -> IntArray:
    """Our floors, called like an arm; nothing to tune."""
    del strength
    return rank_with_floors(scores, groups, shares, k).order


def rankers() -> dict[str, Arm]:
    """The published arms and ours, by name."""
    return {**ARMS, EXACT: exact_floors}


def simulate(lists: int = 300, groups: int = 4, k: int = 100, *, seed: int = 0) -> dict[str, Simulated]:
    """Rank the same drawn lists with each of `SIMULATED`.

    Args:
        lists: how many.
        groups: how many, each with `k` candidates.
        k: places.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    codes, weights = np.repeat(np.arange(groups), k), discounts(k)
    arms = {name: rankers()[name] for name in SIMULATED}
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in arms}
    for _ in range(lists):
        shares, scores = rng.random(groups), rng.random(groups * k)
        shares /= shares.sum()
        ideal = float(scores[rank_by_score(scores, k)] @ weights)
        for name, arm in arms.items():
            order = arm(scores, codes, shares, k)
            shown = codes[order]
            ndcg = float(scores[order] @ weights) / ideal
            rows[name].append(
                (infeasible_index(shown, shares), ndkl(shown, shares), min_skew(shown, shares), max_skew(shown, shares), ndcg)
            )
    return {name: _columns(values) for name, values in rows.items()}


def latencies(n: int = 1000, groups: int = 50, k: int = 50, *, lists: int = 200, seed: int = 0) -> dict[str, dict[str, float]]:
    """Microseconds for one list, by ranker: {"p50", "p99"} over lists whose floors are .95 of their candidates' shares.

    Every list is ranked by all in turn, so that a busy moment of the machine meets them alike. Groups differ in size (shares drawn from
    U(0, 1)) and scores fall with the group's code, so that floors bind.
    """
    rng = np.random.default_rng(seed)
    arms = rankers()
    spent: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(lists):
        size = rng.random(groups)
        codes = rng.choice(groups, n, p=size / size.sum())
        scores = rng.random(n) - 0.5 * codes / groups
        shares = 0.95 * np.bincount(codes, minlength=groups) / n
        for name, arm in arms.items():
            start = time.perf_counter_ns()
            arm(scores, codes, shares, k)
            spent[name].append((time.perf_counter_ns() - start) / 1000.0)
    return {name: {"p50": float(np.quantile(t, 0.5)), "p99": float(np.quantile(t, 0.99))} for name, t in spent.items()}


def _columns(rows: list[tuple[float, ...]]) -> Simulated:
    missed, divergence, least, most, ndcg = np.array(rows).T
    return Simulated(missed.astype(np.int64), divergence, least, most, ndcg)
