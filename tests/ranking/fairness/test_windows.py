"""Exact two-sided ranking of one list."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranking.fairness.floors import rank_by_score, rank_with_floors
from ranking.fairness.windows import rank_with_windows
from tests.ranking.oracles import best_in_windows, prefix_counts, shares_as_bounds


class TwoSided:
    """A random list with floors and ceilings in tenths: ties, scarce and empty groups, zero shares, k past n, weights of many shapes."""

    def __init__(self, rng: np.random.Generator, *, most: int = 20) -> None:
        n, g = int(rng.integers(1, most + 1)), int(rng.integers(1, 6))
        self.k = int(rng.integers(1, n + 4))
        self.places = min(self.k, n)
        self.scores = rng.integers(-3, 4, n).astype(float) if rng.random() < 0.5 else rng.normal(size=n)
        self.groups = rng.choice(g, n, p=rng.dirichlet(np.full(g, 0.7 if rng.random() < 0.5 else 20.0)))
        low = rng.multinomial(int(rng.integers(0, 11)), rng.dirichlet(np.full(g, 0.7)))
        high = np.minimum(low + rng.integers(0, 1 + int(rng.choice([1, 4, 10])), g), 10)
        self.floors, self.ceilings = low / 10, high / 10
        tenths = [[Fraction(int(x), 10) for x in shares] for shares in (low, high)]
        self.lower, self.upper = shares_as_bounds(*tenths, self.places)
        self.capped = np.minimum(self.lower, np.bincount(self.groups, minlength=g)[:, None])
        t = np.arange(1, self.places + 1)
        shapes = [1 / np.log2(t + 1), 0.7**t, np.sort(rng.random(self.places))[::-1], (t <= rng.integers(1, self.places + 1)) * 1.0]
        self.weights: NDArray[np.float64] = shapes[int(rng.integers(len(shapes)))]

    def solve(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The order, the (g, K) counts of its prefixes, and its (g,) excess."""
        got = rank_with_windows(self.scores, self.groups, self.floors, self.ceilings, self.k, self.weights)
        return got.order, prefix_counts(got.order.tolist(), self.groups[None], len(self.floors)), got.excess


def assert_optimal(case: TwoSided) -> bool:
    """Whether the ceilings held."""
    order, counts, excess = case.solve()
    assert len(order) == len(set(order.tolist())) == case.places
    assert (counts >= case.capped).all()
    above = np.maximum(counts - case.upper, 0)
    assert excess.tolist() == above.max(axis=1).tolist()
    broken, utility = best_in_windows(case.scores, case.groups, case.capped, case.upper, case.weights)
    assert int(above.sum()) == broken
    assert float(case.scores[order] @ case.weights) == pytest.approx(utility, abs=1e-8)
    return broken == 0


def test_equals_an_assignment_solver() -> None:
    """On 2,000 random lists floors hold, ceilings give way by no more than they must, and no such list is worth more."""
    rng = np.random.default_rng(1)
    held = [assert_optimal(TwoSided(rng)) for _ in range(2000)]
    assert 400 < sum(held) < 1800  # both kinds were there


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_equals_an_assignment_solver_on_fifty_thousand_lists() -> None:
    """The same on 50,000 lists."""
    rng = np.random.default_rng(2)
    for _ in range(50_000):
        assert_optimal(TwoSided(rng))


def test_equals_an_assignment_solver_on_long_lists() -> None:
    """The same on 60 lists of up to 120 candidates, whose exchanges are long chains."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        assert_optimal(TwoSided(rng, most=120))


@given(st.integers(0, 2**32 - 1))
def test_within_a_group_the_order_is_by_score(seed: int) -> None:
    """The candidates of a group stand in the order of their scores, ties in input order, and the best of them are shown."""
    case = TwoSided(np.random.default_rng(seed))
    order, _, _ = case.solve()
    for g in range(len(case.floors)):
        members = rank_by_score(np.where(case.groups == g, case.scores, -np.inf)).tolist()
        shown = [i for i in order.tolist() if case.groups[i] == g]
        assert shown == members[: len(shown)]


@given(st.integers(0, 2**32 - 1))
def test_without_ceilings_it_is_worth_what_the_floors_alone_allow(seed: int) -> None:
    """Ceilings of 1 forbid nothing: the order is that of `rank_with_floors`."""
    case = TwoSided(np.random.default_rng(seed))
    got = rank_with_windows(case.scores, case.groups, case.floors, np.ones(len(case.floors)), case.k, case.weights)
    assert got.order.tolist() == rank_with_floors(case.scores, case.groups, case.floors, case.k).order.tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 25))
def test_a_page_is_ranked_alone_and_the_rest_by_score(seed: int, page: int) -> None:
    """The first `page` places are those of a list that short; behind them stands what is left, by score."""
    case = TwoSided(np.random.default_rng(seed))
    page = min(page, case.places)
    got = rank_with_windows(case.scores, case.groups, case.floors, case.ceilings, case.k, case.weights, page).order.tolist()
    alone = rank_with_windows(case.scores, case.groups, case.floors, case.ceilings, page, case.weights).order.tolist()
    rest = [i for i in rank_by_score(case.scores).tolist() if i not in alone]
    assert got == (alone + rest)[: case.places]


def test_no_order_is_best_for_every_weight() -> None:
    """Of 400 lists with floor and ceiling of one share some have no order that is best at every depth, as all with floors alone have.

    Three groups and seven places: all 3 ** 7 sequences of groups are tried, each group in order of score.
    """
    rng = np.random.default_rng(4)
    places = np.arange(1, 8)
    sequences = np.array(list(itertools.product(range(3), repeat=7)))
    counts = np.cumsum(sequences[:, None] == np.arange(3)[:, None], axis=2)  # (3 ** 7, 3, 7)
    universal = {"floors": 0, "both": 0}
    for _ in range(400):
        tops = np.sort(rng.normal(size=(3, 7)), axis=1)[:, ::-1] + rng.normal(size=(3, 1))
        gained = np.concatenate((np.zeros((3, 1)), np.cumsum(tops, axis=1)), axis=1)  # of a group's first 0 … 7
        sums = sum(gained[g][counts[:, g]] for g in range(3))  # (3 ** 7, 7) of each prefix
        share = rng.dirichlet(np.ones(3))
        low, high = np.floor(np.outer(share, places)), np.ceil(np.outer(share, places))
        for rule, inside in (("floors", counts >= low), ("both", (counts >= low) & (counts <= high))):
            allowed = sums[inside.all(axis=(1, 2))]
            universal[rule] += bool((allowed >= allowed.max(axis=0) - 1e-12).all(axis=1).any())
    assert universal["floors"] == 400
    assert 300 < universal["both"] < 400


def test_lifted_results_name_the_floor_but_not_what_only_a_ceiling_let_up() -> None:
    """A result that stands high because a ceiling held better ones back was lifted by no floor."""
    scores = np.array([9.0, 8.0, 7.0, 2.0, 1.0])
    groups = np.array([0, 0, 0, 1, 1])
    weights = np.array([1.0, 0.8, 0.6, 0.4])
    ceiling = rank_with_windows(scores, groups, (0.0, 0.0), (0.5, 1.0), 4, weights)
    assert ceiling.order.tolist() == [0, 3, 1, 4]
    assert ceiling.binding.tolist() == [-1, -1, -1, -1]
    floor = rank_with_windows(scores, groups, (0.0, 0.5), (0.5, 1.0), 4, weights)
    assert floor.order.tolist() == [0, 3, 1, 4]  # the same list; here the floor alone explains it
    assert floor.binding.tolist() == [-1, 1, -1, 1]
    assert floor.prefix.tolist() == [0, 2, 0, 4]  # j · .5 reaches 1 at j = 2, and 2 at j = 4


def test_ceilings_give_way_where_nobody_else_is_left() -> None:
    """Three of one group, one of another and a ceiling of half: after the other's one, the list goes on above the ceiling and says so."""
    got = rank_with_windows(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0, 0, 0, 1]), (0.0, 0.0), (0.5, 1.0), 4, np.ones(4))
    assert got.order.tolist() == [0, 3, 1, 2]
    assert got.excess.tolist() == [1, 0]  # 3 of 4 against ceil(4 · .5) = 2
    assert got.shortfall.tolist() == [0, 0]


def test_one_group_equal_scores_and_an_empty_list() -> None:
    """The smallest and flattest lists have answers."""
    assert rank_with_windows(np.zeros(3), np.zeros(3, int), (0.5,), (0.5,), 5, np.ones(3)).order.tolist() == [0, 1, 2]
    assert rank_with_windows(np.zeros(4), np.array([0, 0, 1, 1]), (0.5, 0.5), (0.5, 0.5), 4, np.ones(4)).shortfall.tolist() == [0, 0]
    assert rank_with_windows(np.zeros(0), np.zeros(0, int), (0.5,), (1.0,), 5, np.ones(0)).order.tolist() == []


BAD: dict[str, tuple[object, object, int, object, int]] = {
    "k": ([0.5, 0.5], [1.0, 1.0], 0, [1.0, 1.0], 0),
    "page": ([0.5, 0.5], [1.0, 1.0], 2, [1.0, 1.0], -1),
    "floors": ([0.6, 0.5], [1.0, 1.0], 2, [1.0, 1.0], 0),
    "ceilings": ([0.5, 0.5], [0.4, 1.0], 2, [1.0, 1.0], 0),
    "ceilings: above one": ([0.5, 0.5], [0.5, 1.1], 2, [1.0, 1.0], 0),
    "ceilings: NaN": ([0.5, 0.5], [np.nan, 1.0], 2, [1.0, 1.0], 0),
    "ceilings: too few": ([0.5, 0.5], [1.0], 2, [1.0, 1.0], 0),
    "weights": ([0.5, 0.5], [0.5, 0.5], 2, [0.5, 1.0], 0),
    "weights: too few": ([0.5, 0.5], [0.5, 0.5], 2, [1.0], 0),
    "weights: negative": ([0.5, 0.5], [0.5, 0.5], 2, [1.0, -1.0], 0),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_argument_is_named(case: str) -> None:
    """Every way of being wrong raises a ValueError whose message begins with the argument's name."""
    floors, ceilings, k, weights, page = BAD[case]
    with pytest.raises(ValueError, match=f"^{case.partition(':')[0]}: "):
        rank_with_windows(np.array([1.0, 2.0]), np.array([0, 1]), floors, ceilings, k, np.array(weights), page)  # type: ignore[arg-type]


def test_what_all_scores_have_in_common_changes_nothing() -> None:
    """Scores far from zero, as timestamps or other systems' scores are: the search ends, and the list is that of their differences."""
    rng = np.random.default_rng(2)
    for _ in range(30):
        n, k = int(rng.integers(30, 60)), int(rng.integers(10, 25))
        scores, groups = rng.integers(0, 9, n) / 8, rng.integers(0, 3, n)
        floors, ceilings, weights = (0.1, 0.2, 0.1), (0.4, 0.5, 0.3), 1 / np.log2(np.arange(2, k + 2))
        near = rank_with_windows(scores, groups, floors, ceilings, k, weights).order
        far = rank_with_windows(scores + 2.0**30, groups, floors, ceilings, k, weights).order
        assert scores[near] @ weights == pytest.approx(scores[far] @ weights, rel=1e-12)
