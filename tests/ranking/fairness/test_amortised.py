"""Shares of exposure kept over many lists."""

from __future__ import annotations

import math
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ranking.fairness.amortised import Account, Delta, deficit_limit, delivered, prices, promised, settle
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import Controller, FairnessPolicy
from ranking.types import FloatArray, IntArray

NONE = Delta(0.0, 0.0, 0.0)
CONTROLLER = Controller()


def groups_of(codes: list[int], floors: list[float]) -> ListGroups:
    """Groups `0`, `1`, … with these floors and no ceilings."""
    names = tuple(str(g) for g in range(len(floors)))
    return ListGroups("seller", names, np.array(codes, np.int64), np.array(floors), np.ones(len(floors)))


def exposure(k: int) -> list[float]:
    """The share of a list's exposure that each of k places has."""
    weights = [1 / math.log2(rank + 1) for rank in range(1, k + 1)]
    return [w / sum(weights) for w in weights]


@st.composite
def lists(draw: st.DrawFn) -> tuple[ListGroups, int]:
    """One list's groups, often scarce, with floors that sum to at most 1, and a page length."""
    g = draw(st.integers(1, 5))
    codes = draw(st.lists(st.integers(0, g - 1), min_size=1, max_size=15))
    weights = draw(st.lists(st.integers(0, 20), min_size=g, max_size=g))
    total = draw(st.sampled_from([1.0, 0.9, 0.5]))
    return groups_of(codes, [total * w / max(sum(weights), 1) for w in weights]), draw(st.integers(1, 20))


class TestPromised:
    def test_a_group_with_enough_candidates_is_promised_its_floor(self) -> None:
        """Nothing is cut where the candidates can be given all of it."""
        assert promised(groups_of([0] * 5 + [1] * 5, [0.3, 0.5]), 5) == pytest.approx([0.3, 0.5])

    def test_a_scarce_group_is_promised_the_best_places(self) -> None:
        """One candidate can get no more than the exposure of the first place."""
        assert promised(groups_of([0, 1, 1, 1, 1], [0.9, 0.1]), 4) == pytest.approx([exposure(4)[0], 0.1])

    def test_a_group_without_candidates_is_promised_nothing(self) -> None:
        """What cannot be delivered on this list is not owed."""
        assert promised(groups_of([0, 0], [0.5, 0.5]), 2) == pytest.approx([0.5, 0.0])

    def test_two_scarce_groups_are_not_both_promised_the_first_place(self) -> None:
        """Together they get the first two places at best."""
        first, second, *_ = exposure(5)
        assert promised(groups_of([0, 1, 2, 2, 2, 2], [0.5, 0.5, 0.0]), 5) == pytest.approx([first, second, 0.0])

    @given(lists())
    def test_every_set_of_groups_can_be_given_what_it_is_promised(self, one: tuple[ListGroups, int]) -> None:
        """No set is promised more than the best places for all its candidates, and no group more than its floor."""
        groups, k = one
        out = promised(groups, k)
        share, counts = exposure(min(k, len(groups.codes))), np.bincount(groups.codes, minlength=len(groups.names))
        assert (out >= 0.0).all()
        assert (out <= groups.floors).all()
        for members in subsets(len(out)):
            assert out[members].sum() <= sum(share[: counts[members].sum()]) + 1e-9

    @given(lists())
    def test_promises_that_can_be_kept_are_not_cut(self, one: tuple[ListGroups, int]) -> None:
        """Where every set of groups could be given its floors, the floors are promised."""
        groups, k = one
        share, counts = exposure(min(k, len(groups.codes))), np.bincount(groups.codes, minlength=len(groups.names))
        if all(groups.floors[m].sum() <= sum(share[: counts[m].sum()]) + 1e-12 for m in subsets(len(counts))):
            assert promised(groups, k) == pytest.approx(groups.floors)


def subsets(g: int) -> list[list[int]]:
    """Every non-empty set of groups."""
    return [list(c) for c in chain.from_iterable(combinations(range(g), m) for m in range(1, g + 1))]


def test_delivered_is_each_groups_part_of_the_pages_exposure() -> None:
    """A list hands out 1 in all, by 1 / log2(rank + 1)."""
    first, second, third = exposure(3)
    assert delivered(groups_of([0, 1, 0, 1], [0.5, 0.5]), np.array([3, 0, 1])) == pytest.approx([second, first + third])
    assert delivered(groups_of([], [0.5]), np.empty(0, np.int64)).tolist() == [0.0]


class TestSettle:
    def test_totals_and_debt_add_up(self) -> None:
        """What was promised and not delivered is owed."""
        after = settle(Account(lists=3.0, target=1.0, got=0.5, debt=0.5), Delta(2.0, 0.6, 0.4), CONTROLLER)
        assert (after.lists, after.target, after.got) == pytest.approx((3 + 2, 1 + 0.6, 0.5 + 0.4))
        assert after.debt == pytest.approx(0.5 + 0.6 - 0.4)

    def test_a_surplus_is_remembered_up_to_the_bound(self) -> None:
        """Ten lists too much are no licence to be neglected for ten lists."""
        assert settle(Account(), Delta(20.0, 2.0, 12.0), CONTROLLER).debt == -CONTROLLER.debt_bound

    def test_a_need_that_lasts_is_learnt(self) -> None:
        """A group that delivers only at a price above 0.2 comes to rest with that price and without a debt."""
        account = Account()
        for _ in range(4_000):
            got = 0.3 if prices([account], CONTROLLER)[0] > 0.2 else 0.0
            account = settle(account, Delta(1.0, 0.1, got), CONTROLLER)
        assert account.debt < 0.0
        assert account.level == pytest.approx(0.2, abs=CONTROLLER.gain)

    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=200), st.floats(-4, 6), st.floats(0, 2))
    def test_merged_lists_count_as_they_do_one_by_one(self, steps: list[tuple[float, float]], debt: float, level: float) -> None:
        """Totals exactly; debt up to the surplus forgotten on the way; the level within the stated error."""
        account = merged = Account(debt=debt, level=level)
        path, delta = [account], NONE
        for target, got in steps:
            account, delta = settle(account, Delta(1.0, target, got), CONTROLLER), delta + Delta(1.0, target, got)
            path.append(account)
        merged = settle(merged, delta, CONTROLLER)
        assert (merged.lists, merged.target, merged.got) == pytest.approx((account.lists, account.target, account.got))
        owed = np.cumsum([0.0, *(target - got for target, got in steps)])
        behind = (owed - np.minimum.accumulate(owed)).max()
        assert -1e-9 <= account.debt - merged.debt <= behind + 1e-9
        if min(a.debt for a in path) > -CONTROLLER.debt_bound:
            assert merged.debt == pytest.approx(account.debt)
        pulls = [pull(a.debt) for a in (*path[1:], merged)]
        levels = [a.level for a in (*path, merged)]
        off = CONTROLLER.gain * (max(pulls) - min(pulls)) + (max(levels) - min(levels)) / 20
        assert abs(account.level - merged.level) <= len(steps) / 200 * off + 1e-9

    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6), st.randoms())
    def test_which_replica_served_does_not_matter(self, steps: list[tuple[float, float]], random: object) -> None:
        """A merged delta is the sum of its lists, in whatever order and from whomever they come."""
        deltas = [Delta(1.0, *step) for step in steps]
        half = len(deltas) // 2
        one, other = sum_of(deltas[:half]) + sum_of(deltas[half:]), sum_of(deltas[half:]) + sum_of(deltas[:half])
        a, b = settle(Account(), one, CONTROLLER), settle(Account(), other, CONTROLLER)
        assert (a.debt, a.level, a.got) == pytest.approx((b.debt, b.level, b.got))

    def test_a_delta_counts_as_often_as_it_is_said_to(self) -> None:
        """A replica that serves a third of the lists sees its own three times until it hears of the others."""
        assert Delta(1.0, 0.25, 0.5) * 3 == Delta(3.0, 0.75, 1.5)


def pull(debt: float) -> float:
    """What the slow part of a price learns from, read off a price without one."""
    price = prices([Account(target=1.0, debt=debt, level=1e9)], CONTROLLER)[0] - 1e9
    return float(np.clip(price / CONTROLLER.gain, -4 * CONTROLLER.debt_bound, 4 * CONTROLLER.debt_bound))


def sum_of(deltas: list[Delta]) -> Delta:
    total = NONE
    for delta in deltas:
        total = total + delta
    return total


class TestPrices:
    def test_no_promise_no_price(self) -> None:
        """A group without a floor is never paid for, however little it gets."""
        assert prices([Account(), Account(lists=100.0, got=0.0)], CONTROLLER).tolist() == [0.0, 0.0]

    def test_beyond_the_bound_a_group_outranks_everything(self) -> None:
        """At the bound the price is above a million gains."""
        owed = Account(target=1.0, debt=CONTROLLER.debt_bound)
        assert prices([owed], CONTROLLER)[0] > 1e6 * CONTROLLER.gain

    def test_a_full_surplus_costs_nothing(self) -> None:
        """Whatever was learnt before, a group with a surplus of the bound is ranked by its scores."""
        assert prices([Account(target=1.0, debt=-CONTROLLER.debt_bound, level=5.0)], CONTROLLER).tolist() == [0.0]

    @given(st.floats(-4, 8), st.floats(-4, 8), st.floats(0, 3))
    def test_who_is_owed_more_is_priced_no_lower(self, a: float, b: float, level: float) -> None:
        """Prices never fall as debt rises, and are never negative."""
        low, high = prices([Account(target=1.0, debt=d, level=level) for d in sorted((a, b))], CONTROLLER)
        assert 0.0 <= low <= high

    def test_fairco_prices_the_disparity_of_exposure_over_merit(self) -> None:
        """gain × (the largest exposure per mean merit - the group's own), Morik et al. 2020; groups without merit have no part in it."""
        accounts = [Account(lists=10.0, target=5.0, got=6.0), Account(lists=10.0, target=4.0, got=3.0), Account(lists=10.0, got=1.0)]
        assert prices(accounts, Controller("fairco", 0.01)) == pytest.approx([0.0, 0.01 * (6 / (5 / 10) - 3 / (4 / 10)), 0.0])
        assert prices([Account()], Controller("fairco")).tolist() == [0.0]

    def test_fairco_asks_nothing_for_a_group_that_came_late(self) -> None:
        """Groups that all got what they were promised have no disparity, however many lists each of them was on."""
        accounts = [Account(lists=10_000.0, target=1000.0, got=1000.0), Account(lists=10.0, target=1.0, got=1.0)]
        assert prices(accounts, Controller("fairco", 0.01)).tolist() == [0.0, 0.0]


class Adversary:
    """Candidates and scores made to put a controller at its worst.

    `spite` gives the highest scores to whom is owed least, `scarce` besides a single candidate to whom is owed most; `switch` changes
    sides every 40 lists.
    """

    def __init__(self, how: str, floors: FloatArray, seed: int) -> None:
        self._how, self._floors = how, floors
        self._rng = np.random.default_rng(seed)

    def list_number(self, t: int, debts: FloatArray, span: float) -> tuple[IntArray, FloatArray]:
        g = len(self._floors)
        n = int(self._rng.integers(1, 14))
        codes = self._rng.integers(0, g, n)
        most = int(np.argmax(debts))
        if self._how == "scarce":
            codes = np.concatenate((codes[codes != most], [most]))
        favoured = t // 40 % g if self._how == "switch" else int(np.argmin(debts))
        scores = np.where(codes == favoured, span, 0.0) + 1e-3 * span * self._rng.random(len(codes))
        return codes, np.minimum(scores, span)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["spite", "scarce", "switch"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from([(0.03, 1.0), (1e-4, 1.0), (3e4, 5e6)]),
    st.sampled_from([1.0, 4.0]),
    st.integers(0, 2**32 - 1),
)
@example("spite", [1, 1, 1, 1, 1], (1e-4, 1.0), 1.0, 0)
def test_no_debt_passes_the_limit(how: str, weights: list[int], scale: tuple[float, float], bound: float, seed: int) -> None:
    """Whatever the lists are, no group is ever owed more than the stated limit, nor falls behind by more than that and the bound."""
    gain, span = scale
    controller, floors = Controller(gain=gain, debt_bound=bound), np.array(weights) / sum(weights)
    limit = deficit_limit(len(floors), controller, span)
    accounts = [Account() for _ in floors]
    adversary, owed, least = Adversary(how, floors, seed), np.zeros(len(floors)), np.zeros(len(floors))
    for t in range(250):
        codes, scores = adversary.list_number(t, np.array([a.debt for a in accounts]), span)
        groups = groups_of(codes.tolist(), floors.tolist())
        page = np.argsort(-(scores + prices(accounts, controller)[codes]), kind="stable")[:5]
        target, got = promised(groups, 5), delivered(groups, page)
        accounts = [settle(a, Delta(1.0, p, e), controller) for a, p, e in zip(accounts, target, got, strict=True)]
        owed += target - got
        least = np.minimum(least, owed)
        assert max(a.debt for a in accounts) <= limit
        assert (owed - least).max() <= limit + bound


def test_neglect_of_one_group_ends_at_the_bound() -> None:
    """A group that scores below all others on every list is owed the bound and one list's promise at most, even with next to no gain."""
    controller = Controller(gain=1e-4)
    groups, scores = groups_of([0] * 10 + [1] * 10, [0.5, 0.5]), np.repeat([0.9, 0.1], 10)
    accounts, worst = [Account(), Account()], 0.0
    for _ in range(300):
        page = np.argsort(-(scores + prices(accounts, controller)[groups.codes]), kind="stable")[:10]
        deltas = [Delta(1.0, p, e) for p, e in zip(promised(groups, 10), delivered(groups, page), strict=True)]
        accounts = [settle(a, d, controller) for a, d in zip(accounts, deltas, strict=True)]
        worst = max(worst, accounts[1].debt)
    assert controller.debt_bound - 1.0 < worst <= controller.debt_bound + 0.5


def test_a_promise_of_everything_settles() -> None:
    """One group promised all there is gets it, and its price does not grow for ever."""
    account = Account()
    for _ in range(20_000):
        account = settle(account, Delta(1.0, 1.0, 1.0), CONTROLLER)
    assert account.debt == 0.0
    assert account.level <= 20 * CONTROLLER.gain * CONTROLLER.debt_bound


def test_a_controller_survives_the_round_trip() -> None:
    """A policy read back has the controller it was written with."""
    policy = FairnessPolicy("p", "1", controller=Controller("fairco", 0.01, 2.5))
    assert FairnessPolicy.from_json(policy.to_json()).controller == policy.controller


def test_a_bound_below_one_list_is_refused() -> None:
    """A single list can owe 1, so no smaller debt can be a limit."""
    with pytest.raises(ValueError, match=r"^debt_bound: must be at least 1, what one list can owe, got 0\.5$"):
        Controller(debt_bound=0.5)
