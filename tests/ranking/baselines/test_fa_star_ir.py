"""FA*IR: its tables, how often they fail, and the list that passes them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from ranking.baselines.fa_star_ir import adjusted_alpha, fa_star_ir, failure_probability, m_table


def fair_table(k: int, p: float, alpha: float) -> list[int]:
    table: list[int] = m_table(k, p, adjusted_alpha(k, p, alpha)).tolist()
    return table


PROBABILITIES = st.floats(0.02, 0.98)


def failure_by_enumeration(table: list[int], p: float) -> float:
    """Every sequence of coins, one by one."""
    total = 0.0
    for coins in itertools.product((0, 1), repeat=len(table)):
        if any(sum(coins[: j + 1]) < least for j, least in enumerate(table)):
            total += math.prod(p if c else 1 - p for c in coins)
    return total


def test_table_of_one_half_at_ten_percent() -> None:
    """Three tails in a row have probability .125 > .1, four .0625: the first is due at place 4; so on to 3 of 10."""
    table = m_table(10, 0.5, 0.1)
    want = [min(m for m in range(k + 1) if sum(math.comb(k, i) for i in range(m + 1)) / 2**k >= 0.1) for k in range(1, 11)]
    assert table.tolist() == want == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("k", "p", "fails"),
    [(10, 0.5, 0.12890625), (20, 0.5, 0.18935203552246094), (20, 0.25, 0.14688718869911099)],
)
def test_tables_that_are_not_adjusted_fail_more_often_than_alpha(k: int, p: float, fails: float) -> None:
    """Known failure probabilities of the tables at .1, of which the shortest is a count of coin sequences over 1,024."""
    assert failure_probability(m_table(k, p, 0.1), p) == pytest.approx(fails, abs=1e-12)
    assert failure_by_enumeration([0, 0, 0, 1, 1, 1, 2, 2, 3, 3], 0.5) == 132 / 1024 == 0.12890625


@pytest.mark.parametrize(("k", "p", "fails"), [(20, 0.25, 0.089722), (10, 0.5, 0.075195), (40, 0.5, 0.099050)])
def test_adjusted_tables_fail_as_often_as_alpha_allows(k: int, p: float, fails: float) -> None:
    """Known failure probabilities at the adjusted .1: below it, while the next larger table is above."""
    adjusted = adjusted_alpha(k, p, 0.1)
    assert failure_probability(m_table(k, p, adjusted), p) == pytest.approx(fails, abs=1e-6)
    assert failure_probability(m_table(k, p, adjusted + 1e-9), p) > 0.1


def test_adjusted_table_of_a_quarter() -> None:
    """At (20, .25, .1) nothing is due within 9 places, one within 15 and two within 20."""
    assert fair_table(20, 0.25, 0.1) == [0] * 9 + [1] * 6 + [2] * 5


@given(st.integers(1, 40), PROBABILITIES, st.floats(0.01, 0.5))
def test_table_is_the_inverse_binomial(k: int, p: float, alpha: float) -> None:
    """m(j) is the first count at which scipy's distribution reaches α."""
    places, least = np.arange(1, k + 1), m_table(k, p, alpha)
    assert (binom.cdf(least, places, p) > alpha - 1e-12).all()
    assert (binom.cdf(least - 1, places, p) < alpha + 1e-12).all()


@given(st.integers(1, 9), PROBABILITIES, st.floats(0.01, 0.5))
def test_failure_probability_is_that_of_all_coin_sequences(k: int, p: float, alpha: float) -> None:
    """The place-by-place sum equals the sum over all 2^k sequences."""
    table = m_table(k, p, alpha)
    assert failure_probability(table, p) == pytest.approx(failure_by_enumeration(table.tolist(), p), abs=1e-12)


def test_failure_probability_is_that_of_drawn_lists() -> None:
    """Of 200,000 drawn lists of 30 places the share that fails is the probability, within 5 standard errors."""
    table, p = m_table(30, 0.3, 0.1), 0.3
    drawn = np.cumsum(np.random.default_rng(0).random((200_000, 30)) < p, axis=1)
    want = failure_probability(table, p)
    assert (drawn < table).any(axis=1).mean() == pytest.approx(want, abs=5 * math.sqrt(want * (1 - want) / 200_000))


@given(st.integers(1, 12), PROBABILITIES, st.floats(0.02, 0.4))
def test_adjusted_alpha_is_the_largest_safe_one(k: int, p: float, alpha: float) -> None:
    """No table between it and α passes: each value of the binomial distribution tried one after the other agrees."""
    values = {sum(math.comb(j, i) * p**i * (1 - p) ** (j - i) for i in range(m + 1)) for j in range(1, k + 1) for m in range(j + 1)}
    tables = [m_table(k, p, v + 1e-12) for v in {0.0, alpha - 1e-12} | values if v < alpha]
    safe = [t for t in tables if failure_probability(t, p) <= alpha]
    got = m_table(k, p, adjusted_alpha(k, p, alpha))
    assert got.tolist() == max(safe, key=lambda t: t.sum()).tolist()
    assert failure_probability(got, p) <= alpha + 1e-9


@given(st.integers(0, 2**32 - 1))
def test_list_keeps_the_table_with_the_best_by_score(seed: int) -> None:
    """The list holds the table's counts while there are protected candidates, and a protected one stands out of turn only where due."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 60)), int(rng.integers(1, 30))
    groups, scores = (rng.random(n) < 0.5).astype(int), rng.random(n)
    p, alpha = float(rng.uniform(0.05, 0.95)), 0.1
    order = fa_star_ir(scores, groups, np.array([0.0, p]), k, strength=alpha).tolist()
    assert len(set(order)) == len(order) == min(k, n)
    top = np.argsort(-scores)[:k]
    if groups[top].sum() >= p * len(top):
        assert order == top.tolist()
        return
    table = fair_table(min(k, n), p, alpha)
    left = sorted(range(n), key=lambda i: -scores[i])
    shown = 0
    for i, least in zip(order, table, strict=True):
        protected = [j for j in left if groups[j] == 1]
        assert i == (protected[0] if shown < least and protected else left[0])
        left.remove(i)
        shown += int(groups[i])


def test_groups_short_of_their_share_are_protected_together() -> None:
    """Groups 1 and 2 get nothing by score and want .2 and .3: the list is that of one group with .5."""
    scores = np.arange(30.0, 0.0, -1.0)
    groups = np.repeat([0, 1, 2], 10)
    got = fa_star_ir(scores, groups, np.array([0.5, 0.2, 0.3]), 10)
    want = fa_star_ir(scores, np.minimum(groups, 1), np.array([0.5, 0.5]), 10)
    assert got.tolist() == want.tolist()
    assert np.count_nonzero(groups[got] > 0) == fair_table(10, 0.5, 0.1)[-1]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_a_significance_is_within_zero_and_one(alpha: float) -> None:
    """Anything else is refused, naming the argument."""
    with pytest.raises(ValueError, match=r"^strength: "):
        fa_star_ir(np.ones(2), np.array([0, 1]), np.array([0.5, 0.5]), 2, strength=alpha)
