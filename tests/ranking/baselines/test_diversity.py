"""xQuAD, calibrated recommendations and MMR against their objectives, written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranking.baselines.arms import ARMS
from ranking.fairness.floors import rank_by_score

Objective = Callable[[list[int], int], float]


class Case:
    """A random list with shares that sum to 1, so that they are the target."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        g, n = int(rng.integers(1, 5)), int(rng.integers(2, 15))
        self.k, self.weight = int(rng.integers(1, 12)), float(rng.choice([0.0, 0.3, 0.5, 0.9, 1.0]))
        self.scores = rng.normal(size=n) * 10.0 ** rng.integers(-3, 6)
        self.groups: NDArray[np.int64] = rng.integers(0, g, n)
        self.shares: NDArray[np.float64] = rng.multinomial(8, rng.dirichlet(np.ones(g))) / 8
        low, high = self.scores.min(), self.scores.max()
        self.scaled = (self.scores - low) / (high - low)

    def share(self, shown: list[int], group: int) -> float:
        return sum(self.groups[i] == group for i in shown) / len(shown) if shown else 0.0


def assert_greedy(case: Case, name: str, objective: Objective) -> None:
    """At every place no other candidate has a higher value."""
    order = ARMS[name](case.scores, case.groups, case.shares, case.k, strength=case.weight).tolist()
    assert len(set(order)) == len(order) == min(case.k, len(case.scores))
    for j, i in enumerate(order):
        left = [c for c in range(len(case.scores)) if c not in order[:j]]
        values = {c: objective(order[:j], c) for c in left}
        assert values[i] == pytest.approx(max(values.values()), abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_xquad_takes_the_best_of_all_candidates(seed: int) -> None:
    """Score and the product of what the user wants of a group and how little of it is shown."""
    case = Case(seed)
    assert_greedy(
        case,
        "xquad",
        lambda shown, i: (
            (1 - case.weight) * case.scaled[i] + case.weight * case.shares[case.groups[i]] * (1 - case.share(shown, case.groups[i]))
        ),
    )


@given(st.integers(0, 2**32 - 1))
def test_calibrated_takes_the_best_of_all_candidates(seed: int) -> None:
    """Sum of scores against the KL divergence of the whole extended list, nothing left out of the sum."""
    case = Case(seed)

    def objective(shown: list[int], i: int) -> float:
        extended = [*shown, i]
        kl = 0.0
        for g, p in enumerate(case.shares.tolist()):
            if p > 0:
                kl += p * math.log(p / (0.99 * case.share(extended, g) + 0.01 * p))
        return (1 - case.weight) * sum(case.scaled[extended]) - case.weight * kl

    assert_greedy(case, "calibrated", objective)


@given(st.integers(0, 2**32 - 1))
def test_mmr_takes_the_best_of_all_candidates(seed: int) -> None:
    """Score less the largest similarity to what is shown, two items of one group being alike."""
    case = Case(seed)
    assert_greedy(
        case,
        "mmr",
        lambda shown, i: (
            (1 - case.weight) * case.scaled[i] - case.weight * max((float(case.groups[i] == case.groups[s]) for s in shown), default=0.0)
        ),
    )


@pytest.mark.parametrize("name", ["xquad", "calibrated", "mmr"])
@given(seed=st.integers(0, 2**32 - 1))
def test_without_weight_the_list_is_ranked_by_score(name: str, seed: int) -> None:
    """Strength 0 changes nothing, whatever the unit of the scores."""
    case = Case(seed)
    got = ARMS[name](case.scores, case.groups, case.shares, case.k, strength=0.0)
    assert got.tolist() == rank_by_score(case.scores, case.k).tolist()


@pytest.mark.parametrize("name", ["xquad", "calibrated"])
def test_with_all_weight_the_mix_is_the_target(name: str) -> None:
    """Strength 1 gives .5, .3 and .2 of ten places to groups that want them, whatever the scores."""
    groups = np.repeat([0, 1, 2], 10)
    got = ARMS[name](np.arange(30.0, 0.0, -1.0), groups, np.array([0.5, 0.3, 0.2]), 10, strength=1.0)
    mix = np.bincount(groups[got], minlength=3) / 10
    if name == "calibrated":
        assert mix.tolist() == [0.5, 0.3, 0.2]
    else:  # xQuAD balances p_g (1 - share_g), which is less than proportional
        assert (mix > 0).all()
        assert mix[0] > mix[2]


@pytest.mark.parametrize("name", ["xquad", "calibrated", "mmr"])
@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_is_within_zero_and_one(name: str, weight: float) -> None:
    """Anything else is refused, naming the argument."""
    with pytest.raises(ValueError, match=r"^strength: "):
        ARMS[name](np.ones(2), np.array([0, 1]), np.array([0.5, 0.5]), 2, strength=weight)
