"""One list under all rules of a policy at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_by_score, rank_with_floors
from ranking.fairness.groups import ListGroups
from ranking.fairness.rerank import rerank
from ranking.fairness.windows import rank_with_windows


def rule(codes: Sequence[int] | NDArray[np.int64], floors: Sequence[float], ceilings: Sequence[float] = ()) -> ListGroups:
    names = tuple(f"g{g}" for g in range(len(floors)))
    return ListGroups("attribute", names, np.asarray(codes), np.asarray(floors, float), np.asarray(ceilings or [1.0] * len(floors)))


class Listed:
    """A random list with two rules in tenths."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 40))
        self.n = n
        self.k = int(rng.integers(1, n + 4))
        self.scores = rng.normal(size=n)
        self.tiers = rule(rng.integers(0, 3, n), rng.multinomial(int(rng.integers(0, 6)), [0.2, 0.4, 0.4]) / 10)
        self.sellers = rule(rng.integers(0, 4, n), rng.multinomial(int(rng.integers(0, 6)), [0.25] * 4) / 10)
        self.sponsored = rng.random(n) < rng.choice([0.1, 0.5, 0.9])
        self.slots = tuple(int(s) for s in np.flatnonzero(rng.random(12) < 0.3) + 1)
        self.page = int(rng.integers(0, 12))


def ads_wanted(case: Listed) -> list[bool]:
    """Who must stand where: an ad in the slots, none elsewhere, as long as there are both."""
    ads, organic = int(case.sponsored.sum()), int((~case.sponsored).sum())
    out: list[bool] = []
    for place in range(1, min(case.k, case.n) + 1):
        ad = ads > 0 and (place in case.slots or organic == 0)
        ads, organic = ads - ad, organic - (not ad)
        out.append(ad)
    return out


@given(st.integers(0, 2**32 - 1))
def test_without_floors_it_is_by_score(seed: int) -> None:
    """No rules, or rules that promise nothing, leave the order by score, with one number per group."""
    case = Listed(seed)
    want = rank_by_score(case.scores, case.k).tolist()
    assert rerank(case.scores, (), case.k).order.tolist() == want
    got = rerank(case.scores, (rule(case.tiers.codes, (0, 0, 0)), rule(case.sellers.codes, (0, 0, 0, 0))), case.k)
    assert got.order.tolist() == want
    assert got.binding.tolist() == [-1] * len(want)
    assert got.shortfall.tolist() == got.excess.tolist() == [0] * 7
    assert got.gap == 0.0


@given(st.integers(0, 2**32 - 1))
def test_one_rule_is_solved_exactly(seed: int) -> None:
    """Floors alone are those of `rank_with_floors`, with a ceiling those of `rank_with_windows` under DCG's weights."""
    case = Listed(seed)
    floors = case.tiers.floors
    got, want = (
        rerank(case.scores, (case.tiers,), case.k, page=case.page),
        rank_with_floors(case.scores, case.tiers.codes, floors, case.k, case.page),
    )
    for name in ("order", "binding", "prefix", "shortfall", "excess"):
        assert getattr(got, name).tolist() == getattr(want, name).tolist()
    ceilings = np.minimum(1.0, floors + 0.3)
    covered = min(case.page or case.k, case.k, case.n)
    with_ceilings = rerank(case.scores, (rule(case.tiers.codes, floors.tolist(), ceilings.tolist()),), case.k, page=case.page)
    windows = rank_with_windows(case.scores, case.tiers.codes, floors, ceilings, case.k, discounts(covered), case.page)
    assert with_ceilings.order.tolist() == windows.order.tolist()
    assert with_ceilings.excess.tolist() == windows.excess.tolist()


@given(st.integers(0, 2**32 - 1))
def test_a_rule_that_promises_nothing_only_moves_the_ids(seed: int) -> None:
    """Beside a rule of four groups without floors the other is solved alone, its groups counted from 4."""
    case = Listed(seed)
    got = rerank(case.scores, (rule(case.sellers.codes, (0, 0, 0, 0)), case.tiers), case.k)
    want = rerank(case.scores, (case.tiers,), case.k)
    assert got.order.tolist() == want.order.tolist()
    assert got.binding.tolist() == [-1 if g < 0 else g + 4 for g in want.binding.tolist()]
    assert got.shortfall.tolist() == [0] * 4 + want.shortfall.tolist()


@given(st.integers(0, 2**32 - 1))
def test_two_rules_say_what_every_group_got(seed: int) -> None:
    """With two rules the shortfall of each group is the most by which any prefix of the page misses floor(j · share)."""
    case = Listed(seed)
    got = rerank(case.scores, (case.tiers, case.sellers), case.k, page=case.page)
    assert len(set(got.order.tolist())) == min(case.k, case.n)
    covered = min(case.page or case.k, case.k, case.n)
    missing = [
        max(int(j * round(10 * share) // 10) - int((r.codes[got.order[:j]] == g).sum()) for j in range(1, covered + 1))
        for r in (case.tiers, case.sellers)
        for g, share in enumerate(r.floors)
    ]
    assert got.shortfall.tolist() == [max(m, 0) for m in missing]


@given(st.integers(0, 2**32 - 1))
def test_slots_hold_ads_and_nothing_else_does(seed: int) -> None:
    """Without floors, exactly the slots hold sponsored candidates while there are both kinds; each kind stands by score."""
    case = Listed(seed)
    got = rerank(case.scores, (), case.k, slots=case.slots, sponsored=case.sponsored)
    order = got.order.tolist()
    assert case.sponsored[order].tolist() == ads_wanted(case) if case.slots else True
    if case.slots:
        for kind in (True, False):
            ranked = [i for i in rank_by_score(case.scores).tolist() if case.sponsored[i] == kind]
            shown = [i for i in order if case.sponsored[i] == kind]
            assert shown == ranked[: len(shown)]
    assert got.shortfall.tolist() == got.excess.tolist() == []
    assert got.gap == 0.0


def test_slots_and_floors_on_one_page() -> None:
    """Place 2 is for an ad and half of the first four places for the tail: the tail's ad and its one organic candidate make both true."""
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 1.0, 3.0])
    tail = rule([0, 0, 0, 0, 0, 1, 1], (0.0, 0.5))
    sponsored = np.array([False, False, False, True, False, False, True])
    got = rerank(scores, (tail,), 4, slots=(2,), sponsored=sponsored)
    assert got.order.tolist() == [0, 6, 1, 5]
    assert got.binding.tolist() == [-1, 1, -1, 1]
    assert got.prefix.tolist() == [0, 2, 0, 4]
    assert got.shortfall.tolist() == [0, 0]
    assert got.gap == 0.0


def test_slots_bind_behind_the_page_where_floors_do_not() -> None:
    """The floor covers two places; the ad of place 4 stands there all the same."""
    scores = np.array([9.0, 8.0, 7.0, 6.0, 1.0])
    got = rerank(
        scores, (rule([0, 0, 0, 0, 1], (0.0, 0.5)),), 5, page=2, slots=(4,), sponsored=np.array([True, False, False, False, False])
    )
    assert got.order.tolist() == [1, 4, 2, 0, 3]


def test_an_empty_list_and_a_long_k() -> None:
    """No candidates make an empty list, whatever the rules, and no more places are filled than there are candidates."""
    empty = rerank(np.zeros(0), (rule([], (0.5, 0.5)), rule([], (0.5,))), 3, slots=(1,), sponsored=np.zeros(0, bool))
    assert empty.order.tolist() == []
    assert empty.shortfall.tolist() == [0, 0, 0]
    two = (rule([0, 1], (0.5, 0.5)), rule([0, 0], (1.0,)))
    assert sorted(rerank(np.zeros(2), two, 9).order.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("name", "k", "options"),
    [
        ("k", 0, {}),
        ("page", 1, {"page": -1}),
        ("sponsored", 1, {"slots": (1,)}),
        ("sponsored", 1, {"slots": (1,), "sponsored": np.zeros(3, bool)}),
    ],
)
def test_a_wrong_argument_is_named(name: str, k: int, options: dict[str, object]) -> None:
    """Every way of being wrong raises a ValueError whose message begins with the argument's name."""
    with pytest.raises(ValueError, match=f"^{name}: "):
        rerank(np.array([1.0, 2.0]), (), k, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^scores: "):
        rerank(np.array([1.0, np.nan]), (), 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 15), st.booleans())
def test_free_places_are_by_score_and_the_rules_begin_behind_them(seed: int, free: int, ceiling: bool) -> None:
    """The first places stand by score; behind them is the list that the candidates left make alone, under weights of those places."""
    case = Listed(seed)
    tiers = rule(case.tiers.codes, case.tiers.floors.tolist(), [1.0 if not ceiling else 0.6, 1.0, 1.0])
    tiers = ListGroups(tiers.attribute, tiers.names, tiers.codes, np.minimum(tiers.floors, tiers.ceilings), tiers.ceilings)
    got = rerank(case.scores, [tiers], case.k, page=case.page, free=free)
    k = min(case.k, case.n)
    by_score = rank_by_score(case.scores, k)
    assert got.order[:free].tolist() == by_score[:free].tolist()
    if free >= (min(case.page, k) or k):
        assert got.order.tolist() == by_score.tolist()
        return
    left = np.setdiff1d(np.arange(case.n), by_score[:free])
    covered = (min(case.page, k) or k) - free
    weights = 1.0 / np.log2(np.arange(free + 2, free + covered + 2))
    want = rank_with_windows(case.scores[left], tiers.codes[left], tiers.floors, tiers.ceilings, k - free, weights, covered)
    assert weights @ case.scores[got.order[free : free + covered]] == pytest.approx(weights @ case.scores[left[want.order[:covered]]])
    assert sorted(got.order.tolist()) == sorted([*by_score[:free].tolist(), *left[want.order].tolist()])
    assert got.shortfall.tolist() == want.shortfall.tolist()
    assert got.excess.tolist() == want.excess.tolist()
    lifted = got.binding >= 0
    assert (got.prefix[lifted] > free).all()
    assert (np.flatnonzero(lifted) < got.prefix[lifted]).all()


def test_free_places_and_slots_exclude_each_other() -> None:
    """Who may stand in the first places cannot be said twice."""
    with pytest.raises(ValueError, match="free: not with slots"):
        rerank(np.ones(3), (), 3, free=1, slots=(1,), sponsored=np.array([True, False, False]))
    with pytest.raises(ValueError, match="free: must not be negative, got -1"):
        rerank(np.ones(3), (), 3, free=-1)
