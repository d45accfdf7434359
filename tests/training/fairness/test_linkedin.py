"""The simulation of the deterministic arms against exact floors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from ranking.baselines.arms import ARMS
from training.fairness.linkedin import EXACT, SIMULATED, Simulated, latencies, simulate


@pytest.fixture(scope="module")
def runs() -> Mapping[str, Simulated]:
    return simulate(60, 4, 40, seed=1)


@pytest.mark.parametrize("name", sorted(set(SIMULATED) - {EXACT}))
def test_no_feasible_list_of_an_arm_is_worth_more(runs: Mapping[str, Simulated], name: str) -> None:
    """On every single list whose floors the arm met, exact floors have at least its NDCG, and more on average."""
    exact, arm = runs[EXACT], runs[name]
    feasible = arm.missed == 0
    assert feasible.any()
    assert (exact.ndcg[feasible] >= arm.ndcg[feasible] - 1e-12).all()
    assert exact.ndcg[feasible].mean() > arm.ndcg[feasible].mean()


def test_only_det_greedy_misses_floors(runs: Mapping[str, Simulated]) -> None:
    """With four groups DetGreedy runs into prefixes that owe two groups a place at once; no other misses any."""
    assert {name for name, run in runs.items() if run.missed.any()} == {"det_greedy"}


def test_exact_floors_set_no_ceilings(runs: Mapping[str, Simulated]) -> None:
    """What the floors leave goes to the best by score: further from the target than the arms that keep within one place of it."""
    means = {name: run.summary() for name, run in runs.items()}
    for name in ("det_cons", "det_relaxed", "det_const_sort"):
        assert means[EXACT]["ndkl"] > means[name]["ndkl"]
        assert means[EXACT]["max_skew"] > means[name]["max_skew"]


def test_a_run_repeats_itself(runs: Mapping[str, Simulated]) -> None:
    """The same seed draws the same lists, another seed others."""
    assert simulate(3, 4, 40, seed=1)[EXACT].ndcg.tolist() == runs[EXACT].ndcg[:3].tolist()
    assert not np.isin(simulate(3, 4, 40, seed=2)[EXACT].ndcg, runs[EXACT].ndcg).any()


def test_latencies_are_of_every_ranker() -> None:
    """One positive median and p99 for each published arm and for ours."""
    spent = latencies(60, 5, 10, lists=3)
    assert set(spent) == {*ARMS, EXACT}
    assert all(0.0 < t["p50"] <= t["p99"] for t in spent.values())
