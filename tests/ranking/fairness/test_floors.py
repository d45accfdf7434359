"""Exact fair ranking of one list."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranking.fairness.floors import rank_by_score, rank_with_floors, rank_with_minima
from tests.ranking.oracles import best_by_assignment, best_by_integer_program, best_by_permutation, meets, prefix_minima


def discounts(k: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Non-increasing position weights of many shapes: DCG, RBP, reciprocal, precision at a random depth, random steps, none."""
    t = np.arange(1, k + 1)
    cut = int(rng.integers(1, k + 1))
    return [1 / np.log2(t + 1), 0.8**t, 1.0 / t, (t <= cut).astype(float), np.sort(rng.integers(0, 4, k))[::-1].astype(float), np.ones(k)]


class Instance:
    """A random list: few or many distinct scores (ties), scarce or empty groups, zero shares, shares that sum to 1 or less."""

    def __init__(self, rng: np.random.Generator, *, most: int = 24) -> None:
        n, g = int(rng.integers(1, most + 1)), int(rng.integers(1, 6))
        self.k = int(rng.integers(1, n + 4 if rng.random() < 0.5 else 5))  # past n, too, and a short list of many
        self.scores = rng.integers(-3, 4, n).astype(float) if rng.random() < 0.5 else rng.normal(size=n)
        popularity = rng.dirichlet(np.full(g, 0.5))  # some groups get nearly nobody
        self.groups = rng.choice(g, n, p=popularity)
        tenths = rng.multinomial(int(rng.integers(0, 11)), rng.dirichlet(np.full(g, 0.7)))
        self.exact = [Fraction(int(x), 10) for x in tenths]  # what the floats below mean
        self.shares = [int(x) / 10 for x in tenths]
        self.places = min(self.k, n)
        self.minima = prefix_minima(self.groups.tolist(), self.exact, self.places)


def assert_optimal(case: Instance, rng: np.random.Generator) -> None:
    got = rank_with_floors(case.scores, case.groups, case.shares, case.k)
    assert len(got.order) == len(set(got.order.tolist())) == case.places
    assert meets(got.order.tolist(), case.groups.tolist(), case.minima)
    for d in discounts(case.places, rng):
        want = best_by_assignment(case.scores, case.groups.tolist(), case.minima, d)
        assert float(case.scores[got.order] @ d) == pytest.approx(want, abs=1e-9)


def test_equals_an_assignment_solver_for_six_discounts_at_once() -> None:
    """One ranking has the value of the best assignment under every discount, on 6,500 random instances."""
    rng = np.random.default_rng(1)
    for _ in range(6500):
        assert_optimal(Instance(rng), rng)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_equals_an_assignment_solver_on_a_hundred_thousand_instances() -> None:
    """The same on 100,000 instances."""
    rng = np.random.default_rng(2)
    for _ in range(100_000):
        assert_optimal(Instance(rng), rng)


def test_equals_an_integer_program_that_knows_no_deadlines() -> None:
    """The value is that of a 0/1 program stating only the prefix minima, so the deadlines lose nothing."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        case = Instance(rng, most=9)
        got = rank_with_floors(case.scores, case.groups, case.shares, case.k)
        for d in discounts(case.places, rng)[:3]:
            want = best_by_integer_program(case.scores, case.groups.tolist(), case.minima, d)
            assert float(case.scores[got.order] @ d) == pytest.approx(want, abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_equals_trying_all_permutations(seed: int) -> None:
    """On lists of up to six items no permutation that meets the floors is worth more."""
    rng = np.random.default_rng(seed)
    case = Instance(rng, most=6)
    got = rank_with_floors(case.scores, case.groups, case.shares, case.k)
    for d in discounts(case.places, rng):
        want = best_by_permutation(case.scores, case.groups.tolist(), case.minima, d)
        assert float(case.scores[got.order] @ d) == pytest.approx(want, abs=1e-9)


def backward_rule(case: Instance) -> list[int]:
    """The rule as it is stated: select, then fill the places from the last to the first with the lowest-score item allowed there."""
    by_score = sorted(range(len(case.scores)), key=lambda i: (-case.scores[i], i))
    deadline: dict[int, int] = {}
    for g, low in enumerate(case.minima):
        members = [i for i in by_score if case.groups[i] == g]
        for j in range(1, low[case.places] + 1):
            deadline[members[j - 1]] = next(t for t in range(1, case.places + 1) if low[t] >= j)
    rest = [i for i in by_score if i not in deadline][: case.places - len(deadline)]
    left = [i for i in by_score if i in deadline or i in rest]
    order: list[int] = []
    for t in range(case.places, 0, -1):
        last = next(i for i in reversed(left) if deadline.get(i, case.places) >= t)
        left.remove(last)
        order.insert(0, last)
    return order


@given(st.integers(0, 2**32 - 1))
def test_the_order_is_that_of_the_backward_rule(seed: int) -> None:
    """Item for item, ties included, the order is the one the rule of Smith (1956) gives when followed by hand."""
    case = Instance(np.random.default_rng(seed), most=150)
    assert rank_with_floors(case.scores, case.groups, case.shares, case.k).order.tolist() == backward_rule(case)


@given(st.integers(0, 2**32 - 1))
def test_binding_names_the_group_of_every_lifted_result_and_only_of_those(seed: int) -> None:
    """A result above its rank by score carries its group's code, any other -1."""
    case = Instance(np.random.default_rng(seed))
    got = rank_with_floors(case.scores, case.groups, case.shares, case.k)
    rank = {int(i): r for r, i in enumerate(rank_by_score(case.scores))}
    want = [int(case.groups[i]) if place < rank[i] else -1 for place, i in enumerate(got.order.tolist())]
    assert got.binding.tolist() == want


@given(st.integers(0, 2**32 - 1))
def test_without_its_floor_a_lifted_result_would_stand_lower(seed: int) -> None:
    """The floor a lifted result names is the cause: dropping that one group's floor moves the result down or out."""
    case = Instance(np.random.default_rng(seed))
    got = rank_with_floors(case.scores, case.groups, case.shares, case.k)
    for place, (i, g) in enumerate(zip(got.order.tolist(), got.binding.tolist(), strict=True)):
        if g >= 0:
            without = [0.0 if h == g else p for h, p in enumerate(case.shares)]
            order = rank_with_floors(case.scores, case.groups, without, case.k).order.tolist()
            assert i not in order or order.index(i) > place


@given(st.integers(0, 2**32 - 1))
def test_shortfall_is_what_the_floor_asks_for_and_the_group_does_not_have(seed: int) -> None:
    """shortfall = max(0, floor(K · share) - candidates of the group), per group."""
    case = Instance(np.random.default_rng(seed))
    got = rank_with_floors(case.scores, case.groups, case.shares, case.k)
    have = [case.groups.tolist().count(g) for g in range(len(case.shares))]
    assert got.shortfall.tolist() == [max(0, int(case.places * p) - h) for p, h in zip(case.exact, have, strict=True)]


@given(st.integers(0, 2**32 - 1))
def test_zero_shares_rank_by_score(seed: int) -> None:
    """Without a floor the order is by score, ties in input order, and nothing is lifted."""
    case = Instance(np.random.default_rng(seed))
    got = rank_with_floors(case.scores, case.groups, [0.0] * len(case.shares), case.k)
    want = sorted(range(len(case.scores)), key=lambda i: (-case.scores[i], i))
    assert got.order.tolist() == want[: case.k]
    assert (got.binding == -1).all()
    assert not got.shortfall.any()


def test_a_worked_example() -> None:
    """Half the places to group 1: of six head and two tail items, the tail's best is lifted to place 2, its second to place 4."""
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0])
    groups = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    got = rank_with_floors(scores, groups, (0.0, 0.5), 4)
    assert got.order.tolist() == [0, 6, 1, 7]
    assert got.binding.tolist() == [-1, 1, -1, 1]
    got = rank_with_floors(scores, groups, (0.0, 0.5), 6)  # floor(6 · .5) = 3 wanted, 2 there
    assert got.order.tolist() == [0, 6, 1, 7, 2, 3]
    assert got.shortfall.tolist() == [0, 1]


@pytest.mark.parametrize("hundredths", range(1, 100))
def test_a_floor_is_due_exactly_where_the_share_says(hundredths: int) -> None:
    """0.57 · 100 is less than 57 in floats and 57 / 0.57 more than 100; a lifted group still stands exactly where it is due.

    Its j-th item comes at the first place t with t · share ≥ j, neither earlier (score is lost) nor later (the floor is missed).
    """
    k = 100
    groups = np.repeat([0, 1], k)
    got = rank_with_floors((groups == 0).astype(float), groups, (0.0, hundredths / 100), k)
    want = [t for t in range(1, k + 1) if t * hundredths // 100 > (t - 1) * hundredths // 100]
    assert (np.flatnonzero(groups[got.order] == 1) + 1).tolist() == want


def test_ties_stand_in_input_order_within_the_floors() -> None:
    """With all scores equal the floors alone move anything: each group's items stay in input order."""
    groups = np.array([0, 0, 0, 1, 1, 1])
    order = rank_with_floors(np.zeros(6), groups, (0.5, 0.5), 6).order.tolist()
    assert order == [0, 3, 1, 4, 2, 5]


@given(st.integers(0, 2**32 - 1))
def test_shares_are_minima_like_any_other(seed: int) -> None:
    """`rank_with_minima` of floor(j · share_g) is `rank_with_floors`: order, causes and shortfall."""
    case = Instance(np.random.default_rng(seed))
    minima = [[int(j * p) for j in range(1, case.places + 1)] for p in case.exact]
    got, want = (
        rank_with_minima(case.scores, case.groups, np.array(minima), case.k),
        rank_with_floors(case.scores, case.groups, case.shares, case.k),
    )
    for name in ("order", "binding", "prefix", "shortfall", "excess"):
        assert getattr(got, name).tolist() == getattr(want, name).tolist()


def random_minima(case: Instance, rng: np.random.Generator) -> list[list[int]]:
    """[g][j], j = 0 … K: each new place raises one group's minimum, or none."""
    g = len(case.shares)
    rise = rng.integers(0, g + 1, case.places)  # g: none
    late = np.sort(rng.integers(0, case.places, case.places))  # a rise may wait: column j may ask for less than j
    steps = (rise == np.arange(g)[:, None]) & (rng.random(case.places) < 0.8)
    held = np.zeros((g, case.places), int)
    for t in range(case.places):
        held[:, max(t, int(late[t]))] += steps[:, t]
    return [[0, *row] for row in np.cumsum(held, axis=1).tolist()]


@given(st.integers(0, 2**32 - 1))
def test_any_minima_equal_an_assignment_solver(seed: int) -> None:
    """Minima of any shape that leave room in every prefix are met by an order that is best under six discounts at once."""
    rng = np.random.default_rng(seed)
    case = Instance(rng)
    minima = random_minima(case, rng)
    got = rank_with_minima(case.scores, case.groups, np.array(minima)[:, 1:], case.k)
    have = np.bincount(case.groups, minlength=len(minima)).tolist()
    capped = [[min(low, h) for low in row] for row, h in zip(minima, have, strict=True)]
    assert meets(got.order.tolist(), case.groups.tolist(), capped)
    assert got.shortfall.tolist() == [row[-1] - low[-1] for row, low in zip(minima, capped, strict=True)]
    for d in discounts(case.places, rng):
        want = best_by_assignment(case.scores, case.groups.tolist(), capped, d)
        assert float(case.scores[got.order] @ d) == pytest.approx(want, abs=1e-9)


BAD_MINIMA: dict[str, tuple[object, int]] = {
    "minima": ([[1.0, 1.0], [0.0, 0.0]], 2),
    "minima: one row": ([0, 1], 2),
    "minima: too short": ([[0], [0]], 2),
    "minima: negative": ([[-1, 0], [0, 0]], 2),
    "minima: decreasing": ([[1, 0], [0, 0]], 2),
    "minima: no room": ([[1, 1], [1, 1]], 2),
    "groups": ([[0, 0]], 2),
    "k": ([[0, 0], [0, 0]], 0),
}


@pytest.mark.parametrize("case", BAD_MINIMA)
def test_wrong_minima_are_named(case: str) -> None:
    """Every table that is none, or that no list could keep, raises a ValueError whose message begins with the argument's name."""
    minima, k = BAD_MINIMA[case]
    with pytest.raises(ValueError, match=f"^{case.partition(':')[0]}: "):
        rank_with_minima(np.array([1.0, 2.0]), np.array([0, 1]), np.array(minima), k)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_a_page_is_ranked_with_the_floors_and_the_rest_by_score(seed: int, page: int) -> None:
    """The first `page` places are those of a list that short; behind them stands what is left, by score."""
    case = Instance(np.random.default_rng(seed))
    page = min(page, case.places)
    got = rank_with_floors(case.scores, case.groups, case.shares, case.k, page)
    alone = rank_with_floors(case.scores, case.groups, case.shares, page)
    rest = [i for i in rank_by_score(case.scores).tolist() if i not in alone.order.tolist()]
    assert got.order.tolist() == (alone.order.tolist() + rest)[: case.places]
    assert got.shortfall.tolist() == alone.shortfall.tolist()


def test_a_lifted_result_says_within_how_many_places_its_floor_wanted_it() -> None:
    """With .4 of the places for group 1 its first is due at place 3, as 3 · .4 is the first to reach 1, its second at place 5."""
    got = rank_with_floors(np.array([9.0, 8.0, 7.0, 6.0, 5.0, 1.0, 0.5]), np.array([0, 0, 0, 0, 0, 1, 1]), (0.0, 0.4), 5)
    assert got.order.tolist() == [0, 1, 5, 2, 6]
    assert got.prefix.tolist() == [0, 0, 3, 0, 5]


def test_one_item_and_an_empty_list() -> None:
    """The smallest lists have answers: one item stands first, none gives none."""
    assert rank_with_floors(np.array([1.0]), np.array([0]), (1.0,), 10).order.tolist() == [0]
    empty = rank_with_floors(np.array([]), np.array([], np.int64), (0.5, 0.5), 10)
    assert empty.order.tolist() == []
    assert empty.shortfall.tolist() == [0, 0]


BAD: dict[str, tuple[object, object, object, int]] = {
    "scores": ([1.0, np.nan], [0, 1], [0.5, 0.5], 1),
    "scores: inf": ([1.0, np.inf], [0, 1], [0.5, 0.5], 1),
    "scores: matrix": ([[1.0, 2.0]], [[0, 1]], [0.5, 0.5], 1),
    "groups": ([1.0, 2.0], [0, 2], [0.5, 0.5], 1),
    "groups: negative": ([1.0, 2.0], [-1, 0], [0.5, 0.5], 1),
    "groups: too few": ([1.0, 2.0], [0], [0.5, 0.5], 1),
    "groups: floats": ([1.0, 2.0], [0.0, 1.0], [0.5, 0.5], 1),
    "shares": ([1.0, 2.0], [0, 1], [0.6, 0.5], 1),
    "shares: negative": ([1.0, 2.0], [0, 1], [-0.1, 0.5], 1),
    "shares: above one": ([1.0, 2.0], [0, 1], [1.1, 0.0], 1),
    "shares: NaN": ([1.0, 2.0], [0, 1], [np.nan, 0.0], 1),
    "k": ([1.0, 2.0], [0, 1], [0.5, 0.5], 0),
    "k: negative": ([1.0, 2.0], [0, 1], [0.5, 0.5], -3),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_argument_is_named(case: str) -> None:
    """Every way of being wrong raises a ValueError whose message begins with the argument's name."""
    scores, groups, shares, k = BAD[case]
    with pytest.raises(ValueError, match=f"^{case.partition(':')[0]}: "):
        rank_with_floors(np.array(scores), np.array(groups), np.array(shares), k)


def test_a_negative_page_is_refused() -> None:
    """A page of 0 is the whole list, one below is a mistake."""
    with pytest.raises(ValueError, match=r"^page: "):
        rank_with_floors(np.array([1.0]), np.array([0]), (0.5,), 1, page=-1)


@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(0, 45))
def test_rank_by_score_is_a_stable_sort_cut_at_k(values: list[int], k: int) -> None:
    """The first k of a stable descending sort, however many ties cross the cut."""
    want = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert rank_by_score(np.array(values, float), k).tolist() == want[:k]
    assert rank_by_score(np.array(values, float)).tolist() == want
