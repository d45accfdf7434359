"""How long one list takes: our re-rank as the gateway calls it, and the published arms on the same kind of lists in the same run."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from ranking.fairness.groups import ListGroups
from ranking.fairness.rerank import rerank
from training.fairness import linkedin

OURS = "rerank"
CANDIDATES, GROUPS, PLACES = 1000, 50, 50


def latencies(*, rounds: int, lists: int) -> dict[str, dict[str, float]]:
    """Microseconds for one list of 1,000 candidates in 50 groups, 50 places: ranker -> ``p50``, ``p99``, medians over rounds.

    Args:
        rounds: of all rankers in turn; a moment in which the machine was busy spoils one of them, not the figure.
        lists: per round and ranker.
    """
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in range(rounds):
        for name, row in {**linkedin.latencies(CANDIDATES, GROUPS, PLACES, lists=lists, seed=seed), OURS: _ours(lists, seed)}.items():
            rows.setdefault(name, []).append((row["p50"], row["p99"]))
    return {name: dict(zip(("p50", "p99"), np.median(values, axis=0).tolist(), strict=True)) for name, values in rows.items()}


def _ours(lists: int, seed: int) -> Mapping[str, float]:
    """As `linkedin.latencies` draws them: groups of unequal size, scores that fall with the group's code, floors of .95 of the shares."""
    rng = np.random.default_rng(seed)
    names, ceilings, spent = tuple(map(str, range(GROUPS))), np.ones(GROUPS), []
    for _ in range(lists):
        size = rng.random(GROUPS)
        codes = rng.choice(GROUPS, CANDIDATES, p=size / size.sum())
        scores = rng.random(CANDIDATES) - 0.5 * codes / GROUPS
        rule = ListGroups("seller", names, codes, 0.95 * np.bincount(codes, minlength=GROUPS) / CANDIDATES, ceilings)
        start = time.perf_counter_ns()
        rerank(scores, (rule,), PLACES)
        spent.append((time.perf_counter_ns() - start) / 1000.0)
    return {"p50": float(np.quantile(spent, 0.5)), "p99": float(np.quantile(spent, 0.99))}
