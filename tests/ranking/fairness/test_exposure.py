"""What each group got on one list."""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.fairness.exposure import discounts, exposure_report
from ranking.fairness.floors import rank_by_score, rank_with_floors
from ranking.fairness.groups import ListGroups

NONE = np.zeros(0, np.int64)


def rule(codes: Any, floors: tuple[float, ...], attribute: str = "popularity_tier", ceilings: tuple[float, ...] = ()) -> ListGroups:
    names = tuple("abcdefg"[: len(floors)])
    return ListGroups(attribute, names, np.asarray(codes, np.int64), np.array(floors), np.array(ceilings or (1.0,) * len(floors)))


def zeros(g: int) -> dict[str, Any]:
    return {name: np.zeros(g) for name in ("shortfall", "excess", "prices", "debts")}


def test_a_worked_example() -> None:
    """Counts and discounted shares before and after, derived by hand for three places."""
    groups = rule([0, 0, 1, 1, 0], (0.0, 0.4))
    a, b = exposure_report(np.array([0, 1, 4]), np.array([0, 2, 1]), [groups], **zeros(2))
    total = 1 / log2(2) + 1 / log2(3) + 1 / log2(4)
    assert (a.group, a.candidates, a.count, a.count_before, a.target_share) == ("a", 3, 2, 3, 0.0)
    assert (b.group, b.candidates, b.count, b.count_before, b.target_share) == ("b", 2, 1, 0, 0.4)
    assert a.exposure == pytest.approx((1 / log2(2) + 1 / log2(4)) / total)
    assert b.exposure == pytest.approx((1 / log2(3)) / total)
    assert (a.exposure_before, b.exposure_before) == (pytest.approx(1.0), 0.0)


def test_every_group_of_every_rule_has_its_own_numbers() -> None:
    """Flat per-group arrays are read rule by rule: group 0 of the second rule comes after all of the first."""
    rules = [rule([0, 1], (0.1, 0.2)), rule([2, 2], (0.0, 0.0, 0.5), "seller", ceilings=(1.0, 0.4, 0.9))]
    flat = np.arange(5)
    order = np.array([0, 1])
    report = exposure_report(order, order, rules, shortfall=flat, excess=10 * flat, prices=flat / 10, debts=flat / 100)
    assert [(g.attribute, g.group) for g in report] == [*[("popularity_tier", x) for x in "ab"], *[("seller", x) for x in "abc"]]
    assert [g.target_share for g in report] == [0.1, 0.2, 0.0, 0.0, 0.5]
    assert [g.ceiling for g in report] == [1.0, 1.0, 1.0, 0.4, 0.9]
    assert [g.count for g in report] == [1, 1, 0, 0, 2]
    assert [(g.shortfall, g.excess, g.price, g.debt) for g in report] == [(i, 10 * i, i / 10, i / 100) for i in range(5)]


@given(st.integers(0, 2**32 - 1))
def test_shares_sum_to_one_and_counts_to_k(seed: int) -> None:
    """Exposure is a partition of the list: over all groups it sums to 1, counts to k, candidates to n."""
    rng = np.random.default_rng(seed)
    n, k = 30, int(rng.integers(1, 30))
    scores, groups = rng.random(n), rule(rng.integers(0, 3, n), (0.0, 0.3, 0.2))
    fair = rank_with_floors(scores, groups.codes, groups.floors, k)
    report = exposure_report(rank_by_score(scores, k), fair.order, [groups], **(zeros(3) | {"shortfall": fair.shortfall}))
    assert sum(g.exposure for g in report) == pytest.approx(1.0)
    assert sum(g.exposure_before for g in report) == pytest.approx(1.0)
    assert sum(g.count for g in report) == sum(g.count_before for g in report) == k
    assert sum(g.candidates for g in report) == n
    assert [g.shortfall for g in report] == fair.shortfall.tolist()


def test_an_empty_list_exposes_nobody() -> None:
    """With no results every share is 0, not NaN."""
    (group,) = exposure_report(NONE, NONE, [rule(NONE, (0.5,))], **zeros(1))
    assert (group.exposure, group.exposure_before, group.count, group.candidates) == (0.0, 0.0, 0, 0)


def test_lists_of_different_lengths_are_refused() -> None:
    """Before and after must be the same list cut at the same place, and each group needs its numbers."""
    groups = [rule([0, 0], (0.0,))]
    with pytest.raises(ValueError, match=r"^before, after: .* got 2 and 1"):
        exposure_report(np.array([0, 1]), np.array([0]), groups, **zeros(1))
    with pytest.raises(ValueError, match=r"^shortfall, excess, prices, debts: .* \(1\), got 1 shortfall, 2 excess"):
        exposure_report(np.array([0]), np.array([0]), groups, **(zeros(1) | {"excess": np.zeros(2)}))


@pytest.mark.parametrize("k", [0, 1, 1024, 1025, 3000])
def test_discounts_are_dcgs_for_lists_of_any_length(k: int) -> None:
    """Rank r weighs 1 / log2(r + 1)."""
    assert discounts(k).tolist() == pytest.approx([1 / log2(r + 1) for r in range(1, k + 1)])
