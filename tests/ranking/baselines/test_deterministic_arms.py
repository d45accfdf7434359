"""DetGreedy, DetCons, DetRelaxed and DetConstSort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.baselines.arms import ARMS
from ranking.baselines.deterministic import det_cons, det_const_sort, det_greedy, det_relaxed
from ranking.baselines.queues import target_shares
from ranking.metrics import infeasible_index, ndkl

DETERMINISTIC = ("det_greedy", "det_cons", "det_relaxed", "det_const_sort")


def queues(scores: Sequence[float], groups: Sequence[int], g: int) -> list[list[int]]:
    return [sorted((i for i, a in enumerate(groups) if a == x), key=lambda i: (-scores[i], i)) for x in range(g)]


def by_the_paper(name: str, scores: Sequence[float], groups: Sequence[int], p: Sequence[Fraction], k: int) -> list[int]:
    """DetGreedy, DetCons and DetRelaxed, sentence by sentence and in rational numbers; shares sum to 1."""
    left, count, order = queues(scores, groups, len(p)), [0] * len(p), []
    for j in range(1, min(k, len(scores)) + 1):
        below_min = [a for a in range(len(p)) if left[a] and count[a] < math.floor(j * p[a])]
        below_max = [a for a in range(len(p)) if left[a] and count[a] < math.ceil(j * p[a])]
        if not below_min and below_max and name != "det_greedy":
            due = {a: math.ceil(j * p[a]) / p[a] for a in below_max}
            if name == "det_relaxed":
                due = {a: Fraction(math.ceil(d)) for a, d in due.items()}
            below_max = [a for a in below_max if due[a] == min(due.values())]
        among = below_min or below_max or [a for a in range(len(p)) if left[a]]
        a = min(among, key=lambda a: (-scores[left[a][0]], left[a][0]))
        order.append(left[a].pop(0))
        count[a] += 1
    return order


def const_sort_by_the_paper(scores: Sequence[float], groups: Sequence[int], p: Sequence[Fraction], k: int) -> list[int]:
    """DetConstSort with its swaps, in rational numbers; shares sum to 1 and no group is short of candidates."""
    left, mins = queues(scores, groups, len(p)), [0] * len(p)
    order: list[int] = []
    max_index: list[int] = []  # 1-based
    j = 0
    while len(order) < k:
        j += 1
        risen = [a for a in range(len(p)) if math.floor(j * p[a]) > mins[a]]
        mins = [math.floor(j * x) for x in p]
        for a in sorted(risen, key=lambda a: (-scores[left[a][0]], left[a][0])):
            order.append(left[a].pop(0))
            max_index.append(j)
            at = len(order) - 1
            while at > 0 and max_index[at - 1] >= at + 1 and (-scores[order[at - 1]], order[at - 1]) > (-scores[order[at]], order[at]):
                order[at - 1], order[at] = order[at], order[at - 1]
                max_index[at - 1], max_index[at] = max_index[at], max_index[at - 1]
                at -= 1
    return order[:k]


def random_shares(rng: np.random.Generator, g: int) -> list[Fraction]:
    parts = rng.integers(1, 9, g)
    return [Fraction(int(x), int(parts.sum())) for x in parts]


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_two_groups_at_one_half_alternate_until_one_runs_out(name: str) -> None:
    """At every even place b is below its least count, at every odd one a is best; after three b only a are left; NDKL falls."""
    groups = np.array([0, 0, 0, 1, 0, 0, 0, 1, 1, 0])
    half = np.array([0.5, 0.5])
    a, b = [0, 1, 2, 4, 5, 6, 9], [3, 7, 8]
    want = [a[0], b[0], a[1], b[1], a[2], b[2], *a[3:]]
    got = ARMS[name](np.arange(10.0, 0.0, -1.0), groups, half, 10)
    assert got.tolist() == want == [0, 3, 1, 7, 2, 8, 4, 5, 6, 9]

    def by_hand(shown: list[int]) -> float:
        """For two groups at one half, KL = ln 2 - entropy of the prefix."""
        weights = [1 / math.log2(i + 1) for i in range(1, 11)]
        total = 0.0
        for i, w in enumerate(weights, start=1):
            x = sum(shown[:i]) / i
            total += w * (math.log(2) + sum(y * math.log(y) for y in (x, 1 - x) if y > 0))
        return total / sum(weights)

    assert ndkl(groups, half) == pytest.approx(by_hand(groups.tolist())) == pytest.approx(0.411749, abs=1e-6)
    assert ndkl(groups[got], half) == pytest.approx(by_hand(groups[got].tolist())) == pytest.approx(0.172434, abs=1e-6)


@pytest.mark.parametrize("name", ["det_greedy", "det_cons", "det_relaxed"])
@given(seed=st.integers(0, 2**32 - 1))
def test_greedy_arms_are_those_of_the_paper(name: str, seed: int) -> None:
    """Item for item, with ties and scarce groups, the order is that of the rule as it is written."""
    rng = np.random.default_rng(seed)
    g, n = int(rng.integers(1, 5)), int(rng.integers(1, 40))
    p = random_shares(rng, g)
    groups = rng.choice(g, n, p=rng.dirichlet(np.ones(g)))
    scores = rng.integers(0, 8, n).astype(float) if rng.random() < 0.5 else rng.random(n)
    k = int(rng.integers(1, 30))
    want = by_the_paper(name, scores.tolist(), groups.tolist(), p, k)
    assert ARMS[name](scores, groups, np.array([float(x) for x in p]), k).tolist() == want


@given(seed=st.integers(0, 2**32 - 1))
def test_const_sort_is_that_of_the_paper(seed: int) -> None:
    """Item for item the order is that of the swaps as they are written, where no group is short; every least count is met."""
    rng = np.random.default_rng(seed)
    g, k = int(rng.integers(1, 5)), int(rng.integers(1, 30))
    p = random_shares(rng, g)
    groups = rng.permutation(np.repeat(np.arange(g), 2 * k + 1))
    scores = rng.integers(0, 8, len(groups)).astype(float) if rng.random() < 0.5 else rng.random(len(groups))
    shares = np.array([float(x) for x in p])
    got = det_const_sort(scores, groups, shares, k)
    assert got.tolist() == const_sort_by_the_paper(scores.tolist(), groups.tolist(), p, k)
    assert infeasible_index(groups[got], shares) == 0


def test_who_needs_it_soonest_comes_before_the_best() -> None:
    """At place 1 with shares .6 and .4, ceil(p)/p is 1.67 and 2.5: DetCons takes the first group; rounded up 2 < 3, DetRelaxed too."""
    scores, groups, shares = np.array([2.0, 1.0]), np.array([1, 0]), np.array([0.6, 0.4])
    assert det_greedy(scores, groups, shares, 1).tolist() == [0]
    assert det_cons(scores, groups, shares, 1).tolist() == [1]
    assert det_relaxed(scores, groups, shares, 1).tolist() == [1]


def test_relaxed_lets_the_best_score_decide_where_rounding_ties() -> None:
    """At place 1 with shares .36, .34 and .3, 1/p is 2.8, 2.9 and 3.3: DetCons takes the first, DetRelaxed the better of the first two."""
    shares = np.array([0.36, 0.34, 0.3])
    scores, groups = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 2])
    assert [math.ceil(1 / p) for p in shares.tolist()] == [3, 3, 4]
    assert det_cons(scores, groups, shares, 1).tolist() == [0]
    assert det_relaxed(scores, groups, shares, 1).tolist() == [1]


def test_floors_below_one_leave_the_rest_to_the_score() -> None:
    """With a floor of .3 for the tail alone, every arm shows exactly three of it in ten, DetGreedy at the last moment."""
    scores = np.arange(20.0, 0.0, -1.0)
    groups = np.repeat([0, 1], 10)  # ten heads, then ten tails
    shares = np.array([0.0, 0.3])
    for name in DETERMINISTIC:
        shown = groups[ARMS[name](scores, groups, shares, 10)]
        assert shown.sum() == 3, name
        assert infeasible_index(shown, shares) == 0, name
    assert groups[det_greedy(scores, groups, shares, 10)].tolist() == [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_target_is_a_distribution_above_the_floors(counts: list[int], seed: int) -> None:
    """It sums to 1, no group is below its floor, groups above theirs keep their proportions, and whole shares stay as they are."""
    rng = np.random.default_rng(seed)
    g = len(counts)
    shares = rng.dirichlet(np.ones(g)) * rng.random() * (rng.random(g) < 0.7)
    target = target_shares(shares, np.array(counts))
    if sum(counts):
        assert target.sum() == pytest.approx(1.0)
        above = target > shares + 1e-9
        scale = target[above] / np.array(counts)[above]
        assert scale == pytest.approx(scale[:1].repeat(len(scale)))
    assert (target >= shares - 1e-9).all()
    whole = rng.dirichlet(np.ones(g))
    assert target_shares(whole, np.array(counts)) == pytest.approx(whole)
