"""Ranking of one list whose candidates are in several groups at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranking.fairness.floors import FairRanking, rank_by_score, rank_with_minima
from ranking.fairness.overlap import rank_with_bounds
from ranking.fairness.windows import rank_with_windows
from tests.ranking.oracles import best_of_cells, best_within_by_integer_program, prefix_counts


class Overlapping:
    """A random list of up to 12 candidates with two or three attributes: ties, negative scores, scarce and empty groups, zero shares."""

    def __init__(self, rng: np.random.Generator, *, most: int = 12, attributes: int = 0) -> None:
        n = int(rng.integers(1, most + 1))
        k = int(rng.integers(1, min(n, 7) + 1))
        sizes = rng.integers(1, 4, attributes or int(rng.integers(2, 4)))
        places = np.arange(1, k + 1)
        self.scores: NDArray[np.float64] = rng.integers(-3, 4, n).astype(float) if rng.random() < 0.5 else rng.normal(size=n)
        self.codes = np.array([rng.integers(0, g, n) + at for g, at in zip(sizes, np.cumsum(sizes) - sizes, strict=True)])
        low = np.concatenate([rng.multinomial(int(rng.integers(0, 11)), rng.dirichlet(np.ones(g))) for g in sizes])
        high = np.minimum(low + rng.integers(0, 11, len(low)), 10) if rng.random() < 0.5 else np.full(len(low), 10)
        self.lower = np.outer(low, places) // 10
        self.upper = -(-np.outer(high, places) // 10)
        self.have = np.bincount(self.codes.ravel(), minlength=len(low))
        self.capped = np.minimum(self.lower, self.have[:, None])
        self.weights = 1 / np.log2(places + 1) if rng.random() < 0.5 else np.sort(rng.random(k))[::-1]

    def solve(self, **options: int) -> FairRanking:
        return rank_with_bounds(self.scores, self.codes, self.lower, self.upper, self.weights, **options)


def assert_honest(case: Overlapping, got: FairRanking) -> tuple[bool, bool]:
    """Whether there is a list within the bounds, and whether one was found; what is said about it is true in any case."""
    order = got.order.tolist()
    assert len(order) == len(set(order)) == len(case.weights)
    counts = prefix_counts(order, case.codes, len(case.lower))
    assert got.shortfall.tolist() == np.maximum(case.lower - counts, 0).max(axis=1).tolist()
    assert got.excess.tolist() == np.maximum(counts - case.upper, 0).max(axis=1).tolist()
    inside = bool((counts >= case.capped).all() and (counts <= case.upper).all())
    best = best_of_cells(case.scores, case.codes, case.capped, case.upper, case.weights)
    if inside:
        assert best is not None
        found = float(case.scores[got.order] @ case.weights)
        nothing = float(case.weights.sum()) * min(0.0, float(case.scores.min()))
        assert found <= best + 1e-9
        assert best - found <= got.gap * (best - nothing) + 1e-9
    return best is not None, inside


def test_finds_the_best_of_every_small_list() -> None:
    """On 1,200 random lists with two or three attributes an order is found wherever a dynamic program has one, and the gap is valid."""
    rng = np.random.default_rng(1)
    outcomes = [assert_honest(case, case.solve()) for case in (Overlapping(rng) for _ in range(1200))]
    assert all(inside == possible for possible, inside in outcomes)
    assert 200 < sum(possible for possible, _ in outcomes) < 1150  # both kinds were there


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_finds_an_order_of_twenty_thousand_lists() -> None:
    """The same on 20,000 lists."""
    rng = np.random.default_rng(2)
    outcomes = [assert_honest(case, case.solve()) for case in (Overlapping(rng) for _ in range(20_000))]
    assert all(inside == possible for possible, inside in outcomes)


def test_a_narrow_beam_states_a_valid_gap() -> None:
    """With two states per place the search may miss the best; what it says it may have missed, and no less, bounds what it did miss."""
    rng = np.random.default_rng(3)
    gaps = []
    for _ in range(300):
        case = Overlapping(rng, most=14)
        got = case.solve(width=2)
        assert_honest(case, got)
        gaps.append(got.gap)
    assert max(gaps) > 0.0


def test_equals_an_integer_program_that_knows_no_cells() -> None:
    """The value is that of a 0/1 program stating only the bounds on every prefix; it finds none where the list reports a broken bound."""
    rng = np.random.default_rng(4)
    for _ in range(60):
        case = Overlapping(rng, most=8)
        got = case.solve()
        best = best_within_by_integer_program(case.scores, case.codes, case.capped, case.upper, case.weights)
        counts = prefix_counts(got.order.tolist(), case.codes, len(case.lower))
        inside = bool((counts >= case.capped).all() and (counts <= case.upper).all())
        assert inside == (best is not None)
        if best is not None:
            assert got.gap == 0.0
            assert float(case.scores[got.order] @ case.weights) == pytest.approx(best, abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_of_one_attribute_it_is_the_exact_solution(seed: int) -> None:
    """With a single attribute and floors only, the utility is that of `rank_with_minima`, and the gap 0."""
    case = Overlapping(np.random.default_rng(seed), attributes=1)
    free = np.broadcast_to(np.arange(1, len(case.weights) + 1), case.upper.shape)
    got = rank_with_bounds(case.scores, case.codes, case.lower, free, case.weights)
    want = rank_with_minima(case.scores, case.codes[0], case.lower, len(case.weights))
    assert got.gap == 0.0
    assert float(case.scores[got.order] @ case.weights) == pytest.approx(float(case.scores[want.order] @ case.weights), abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_candidates_alike_stand_in_order_of_score(seed: int) -> None:
    """Of candidates with the same group of every attribute the better stands first, ties in input order."""
    case = Overlapping(np.random.default_rng(seed))
    order = case.solve().order.tolist()
    rank = {int(i): r for r, i in enumerate(rank_by_score(case.scores))}
    for i in range(len(case.scores)):
        for j in range(len(case.scores)):
            if (case.codes[:, i] == case.codes[:, j]).all() and rank[i] < rank[j] and j in order:
                assert i in order
                assert order.index(i) < order.index(j)


@given(st.integers(0, 2**32 - 1), st.integers(-8, 8))
def test_the_level_of_the_scores_does_not_matter(seed: int, level: int) -> None:
    """Adding the same to all scores, so that they are negative or not, leaves the order as it is."""
    case = Overlapping(np.random.default_rng(seed))
    scores = np.round(case.scores * 16) / 16  # exact in binary, with the level too
    got, want = (rank_with_bounds(s, case.codes, case.lower, case.upper, case.weights) for s in (scores + level, scores))
    assert got.order.tolist() == want.order.tolist()


def test_the_floor_that_lifted_a_result_is_named_by_its_flat_id() -> None:
    """Tier 1 (flat id 1) is due within 2 places and seller 1 (flat id 3) within 4: the one candidate with both is lifted by the tier."""
    scores = np.array([9.0, 8.0, 7.0, 6.0, 1.0, 0.5])
    codes = np.array([[0, 0, 0, 0, 1, 1], [2, 2, 2, 2, 3, 2]])
    lower = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]])
    got = rank_with_bounds(scores, codes, lower, np.tile([1, 2, 3, 4], (4, 1)), np.array([1.0, 0.6, 0.5, 0.4]))
    assert got.order.tolist() == [0, 4, 1, 2]
    assert got.binding.tolist() == [-1, 1, -1, -1]
    assert got.prefix.tolist() == [0, 2, 0, 0]


def test_where_no_order_will_do_the_fewest_places_are_missing() -> None:
    """Both the tier and the seller want the only place and no candidate has both: one of the two is missing, and it says which."""
    scores = np.array([1.0, 2.0, 3.0])
    codes = np.array([[1, 0, 0], [2, 3, 2]])
    lower = np.array([[0], [1], [0], [1]])
    got = rank_with_bounds(scores, codes, lower, np.ones((4, 1), int), np.ones(1))
    assert got.order.tolist() == [1]  # candidate 1 has the seller, candidate 0 the tier; 1 is worth more
    assert got.shortfall.tolist() == [0, 1, 0, 0]


def test_three_hundred_candidates_of_two_attributes() -> None:
    """A list of a size served keeps all floors of tier and seller, within a stated gap, and a wider beam states no larger one."""
    rng = np.random.default_rng(5)
    tier, seller = rng.integers(0, 3, 300), rng.integers(0, 8, 300)
    scores = rng.random(300) + 0.3 * tier + 0.1 * (seller % 3)
    codes = np.array([tier, seller + 3])
    places = np.arange(1, 21)
    lower = np.bincount(codes.ravel())[:, None] * places // 300
    free = np.tile(places, (11, 1))
    weights = 1 / np.log2(places + 1)
    got = rank_with_bounds(scores, codes, lower, free, weights)
    assert not got.shortfall.any()
    assert 0.0 <= got.gap < 0.05
    alone = rank_with_windows(scores, tier, lower[:3, -1] / 20, np.ones(3), 20, weights)
    assert float(scores[got.order] @ weights) <= float(scores[alone.order] @ weights)  # the sellers' floors cost something


ONE = np.array([[1, 2], [1, 2]])
BAD: dict[str, tuple[object, object, object, object]] = {
    "groups": ([[0, 2]], [[0, 0], [0, 0]], ONE, [1.0, 1.0]),
    "scores": ([[0]], [[0, 0], [0, 0]], ONE, [1.0, 1.0]),
    "lower, upper": ([[0, 1]], [[0, 0, 0], [0, 0, 0]], np.ones((2, 3), int), [1.0, 1.0, 1.0]),
    "lower, upper: shapes": ([[0, 1]], [[0, 0], [0, 0]], [[1], [1]], [1.0, 1.0]),
    "lower, upper: decreasing": ([[0, 1]], [[1, 0], [0, 0]], ONE, [1.0, 1.0]),
    "lower, upper: crossed": ([[0, 1]], [[1, 1], [0, 0]], [[0, 2], [1, 2]], [1.0, 1.0]),
    "minima": ([[0, 1]], [[1, 1], [1, 1]], ONE, [1.0, 1.0]),
    "weights": ([[0, 1]], [[0, 0], [0, 0]], ONE, [0.5, 1.0]),
    "weights: too few": ([[0, 1]], [[0, 0], [0, 0]], ONE, [1.0]),
    "k": ([[0, 1]], np.zeros((2, 0), int), np.zeros((2, 0), int), []),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_argument_is_named(case: str) -> None:
    """Every way of being wrong raises a ValueError whose message begins with the argument's name."""
    codes, lower, upper, weights = (np.array(a) for a in BAD[case])
    scores = np.array([1.0, np.nan if case == "scores" else 2.0])
    codes = np.array([[0, 1]]) if case == "scores" else codes
    with pytest.raises(ValueError, match=f"^{case.partition(':')[0]}: "):
        rank_with_bounds(scores, codes, lower, upper, weights)
