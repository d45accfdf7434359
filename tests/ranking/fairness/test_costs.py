"""What each promise cost: the parts add up, none of a floor's is negative, and each is what it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranking.fairness.costs import list_utility, promise_costs
from ranking.fairness.floors import FairRanking, rank_by_score, rank_with_floors
from ranking.fairness.groups import ListGroups
from ranking.fairness.rerank import rerank


def rule(codes: list[int] | NDArray[Any], floors: list[float], ceilings: list[float] | None = None, attribute: str = "tier") -> ListGroups:
    """Groups "a", "b", …"""
    names = tuple("abcdefgh"[: len(floors)])
    return ListGroups(attribute, names, np.array(codes, np.int64), np.array(floors), np.array(ceilings or [1.0] * len(floors)))


def given_up(scores: NDArray[np.float64], fair: FairRanking, k: int, page: int = 0) -> float:
    return list_utility(scores, rank_by_score(scores, k), page) - list_utility(scores, fair.order, page)


def test_utility_is_discounted_over_the_page() -> None:
    """Each score counts 1 / log2(rank + 1), and what stands behind the page counts nothing."""
    scores, order = np.array([0.1, 0.4, 0.2]), np.array([1, 2, 0])
    assert list_utility(scores, order) == pytest.approx(0.4 + 0.2 / math.log2(3) + 0.1 / 2)
    assert list_utility(scores, order, page=1) == 0.4
    assert list_utility(scores, order[:0]) == 0.0


def test_one_floor_costs_what_its_item_displaces() -> None:
    """A floor of one place in two lifts b's only item from the third place to the second: that swap is its cost."""
    scores = np.array([0.9, 0.8, 0.3])
    rules = [rule([0, 0, 1], [0.0, 0.5])]
    (cost,) = promise_costs(scores, rerank(scores, rules, 2), rules, 2)
    assert (cost.kind, cost.attribute, cost.group, cost.prefix, cost.index) == ("floor", "tier", "b", 2, 2)
    assert cost.cost == pytest.approx((0.8 - 0.3) / math.log2(3))


def test_a_price_costs_the_swap_it_causes_and_then_spares_the_floor() -> None:
    """With the price b's item stands second by itself, so the floor that would have lifted it finds its promise kept."""
    scores, prices = np.array([0.9, 0.8, 0.3]), np.array([0.0, 0.55])
    rules = [rule([0, 0, 1], [0.0, 0.5])]
    fair = rerank(scores + prices[rules[0].codes], rules, 2)
    (cost,) = promise_costs(scores, fair, rules, 2, prices=prices)
    assert (cost.kind, cost.group, cost.prefix, cost.index) == ("price", "b", 0, -1)
    assert cost.cost == pytest.approx((0.8 - 0.3) / math.log2(3))


def test_a_floor_after_a_price_can_gain() -> None:
    """The price puts a worse item first; the floor for the other group takes some of it back, at a cost below 0."""
    scores, prices = np.array([0.9, 0.2, 0.1]), np.array([0.0, 1.0])
    rules = [rule([0, 1, 1], [0.5, 0.0])]
    priced = scores + prices[rules[0].codes]
    price, floor = promise_costs(scores, rerank(priced, rules, 2), rules, 2, prices=prices)
    assert price.cost == pytest.approx((0.9 - 0.2) + (0.2 - 0.1) / math.log2(3))
    assert (floor.group, floor.prefix, floor.index) == ("a", 2, 0)
    assert floor.cost == pytest.approx((0.1 - 0.9) / math.log2(3))


def test_promises_that_are_kept_anyway_are_left_out() -> None:
    """Nothing is listed for a list whose order by score keeps every floor, nor for one without promises."""
    scores = np.array([0.9, 0.8, 0.3])
    kept = [rule([1, 0, 0], [0.0, 0.5])]
    assert promise_costs(scores, rerank(scores, kept, 2), kept, 2) == ()
    assert promise_costs(scores, rank_with_floors(scores, np.zeros(3, np.int64), [0.0], 3), [], 3) == ()


def test_a_floor_nobody_can_fill_costs_nothing() -> None:
    """What a group does not have is a shortfall, not a cost."""
    scores = np.array([0.9, 0.8, 0.7])
    rules = [rule([0, 0, 0], [0.0, 1.0])]
    assert promise_costs(scores, rerank(scores, rules, 3), rules, 3) == ()


def test_ceilings_and_further_attributes_are_one_entry_each() -> None:
    """What one rule's ceilings cost beyond its floors is "ceiling"; what a second attribute costs beyond the first is "overlap"."""
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    ceiling = [rule([0, 0, 0, 1], [0.0, 0.0], [0.5, 1.0])]
    (cost,) = promise_costs(scores, rerank(scores, ceiling, 2), ceiling, 2)
    assert (cost.kind, cost.attribute, cost.group, cost.index) == ("ceiling", "tier", "", -1)
    assert cost.cost == pytest.approx((0.8 - 0.1) / math.log2(3))
    both = [rule([0, 0, 0, 1], [0.0, 0.5]), rule([0, 0, 1, 0], [0.0, 0.34], attribute="seller")]
    floor, overlap = promise_costs(scores, rerank(scores, both, 4), both, 4)
    assert (floor.kind, floor.prefix, overlap.kind, overlap.attribute, overlap.group) == ("floor", 2, "overlap", "", "")
    assert overlap.cost == pytest.approx((0.8 - 0.7) * (1 / math.log2(4) - 1 / math.log2(5)))  # the two change places 3 and 4


def test_a_long_list_s_floors_are_summed_up() -> None:
    """After 32 places one by one the others are one entry, and the parts still are the utility given up."""
    n = 300
    scores = np.linspace(1.0, 0.01, n)
    rules = [rule([0] * 100 + [1, 2] * 100, [0.2, 0.4, 0.4])]
    fair = rank_with_floors(scores, rules[0].codes, rules[0].floors, n)
    costs = promise_costs(scores, fair, rules, n)
    assert all(c.group and c.prefix > 0 and c.index >= 0 for c in costs[:32])
    assert [(c.kind, c.attribute, c.group, c.prefix, c.index) for c in costs[32:]] == [("floor", "tier", "", 0, -1)]
    assert all(c.cost > 0.0 for c in costs)
    assert sum(c.cost for c in costs) == pytest.approx(given_up(scores, fair, n), abs=1e-9)


def test_prices_of_many_groups_are_summed_up() -> None:
    """Of 100 priced sellers the first 32 shown are listed; the others, and those nobody sees, are one entry, and nothing is lost."""
    n, k = 100, 80
    scores = np.linspace(1.0, 0.01, n)
    sellers = ListGroups("seller", tuple(map(str, range(n))), np.arange(n), np.zeros(n), np.ones(n))
    prices = 0.5 + np.linspace(0.0, 1.0, n)  # the last come first
    fair = rerank(scores + prices, [sellers], k)
    costs = promise_costs(scores, fair, [sellers], k, prices=prices)
    assert [c.kind for c in costs] == ["price"] * len(costs)
    assert len(costs) <= 33
    assert (costs[-1].attribute, costs[-1].group) == ("", "")
    assert sum(c.cost for c in costs) == pytest.approx(given_up(scores, fair, k), abs=1e-9)


def test_prices_must_be_one_per_group() -> None:
    """A price too many belongs to nobody."""
    scores = np.array([0.5])
    with pytest.raises(ValueError, match=r"^prices: need one per group \(1\), got 2"):
        promise_costs(scores, rank_with_floors(scores, np.array([0]), [0.0], 1), [rule([0], [0.0])], 1, prices=np.zeros(2))


@st.composite
def lists(draw: st.DrawFn, *, rules: int = 1, ceilings: bool = False) -> tuple[NDArray[np.float64], list[ListGroups], int, int]:
    """Scores, many of them equal, rules, k (also above n) and a page."""
    n, k = draw(st.integers(1, 14)), draw(st.integers(1, 16))
    scores = np.array(draw(st.lists(st.integers(0, 6) | st.floats(0, 1), min_size=n, max_size=n)), np.float64)
    made = []
    for r in range(rules):
        g = draw(st.integers(1, 4))
        weights = np.array(draw(st.lists(st.integers(0, 5), min_size=g + 1, max_size=g + 1)), np.float64)
        floors = weights[:g] / max(weights.sum(), 1.0)
        top = [draw(st.sampled_from([1.0, max(f, 0.5)])) for f in floors] if ceilings else [1.0] * g
        codes = draw(st.lists(st.integers(0, g - 1), min_size=n, max_size=n))
        made.append(rule(codes, floors.tolist(), top, attribute=f"attribute {r}"))
    return scores, made, k, draw(st.integers(0, k))


def prices_for(data: st.DataObject, rules: list[ListGroups]) -> NDArray[np.float64]:
    g = sum(len(r.names) for r in rules)
    return np.array(data.draw(st.lists(st.sampled_from([0.0, 0.25, 2.0]), min_size=g, max_size=g)))


def added(rules: list[ListGroups], prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) what the groups' prices add to each candidate."""
    ends = np.cumsum([len(r.names) for r in rules])
    return np.sum([prices[end - len(r.names) : end][r.codes] for r, end in zip(rules, ends, strict=True)], axis=0)


@given(lists())
def test_costs_of_floors_are_not_negative_and_add_up(drawn: tuple[NDArray[np.float64], list[ListGroups], int, int]) -> None:
    """For any list under floors alone: every entry is a floor's, costs at least 0, and together they are the utility given up."""
    scores, rules, k, page = drawn
    fair = rank_with_floors(scores, rules[0].codes, rules[0].floors, k, page)
    costs = promise_costs(scores, fair, rules, k, page=page)
    assert all(c.kind == "floor" and c.cost >= -1e-12 for c in costs)
    assert sum(c.cost for c in costs) == pytest.approx(given_up(scores, fair, k, page), abs=1e-9)
    prefixes = [c.prefix for c in costs]
    assert prefixes == sorted(prefixes)
    # Each names the very candidate that stands within the prefix because of it, and no other floor's.
    place = {i: t for t, i in enumerate(fair.order.tolist(), start=1)}
    assert all(place[c.index] <= c.prefix and rules[0].names[rules[0].codes[c.index]] == c.group for c in costs)
    assert len({c.index for c in costs}) == len(costs)


@given(lists(), st.data())
def test_costs_add_up_under_prices(drawn: tuple[NDArray[np.float64], list[ListGroups], int, int], data: st.DataObject) -> None:
    """Prices and floors together are the utility given up, measured without the prices."""
    scores, rules, k, page = drawn
    prices = prices_for(data, rules)
    fair = rank_with_floors(scores + added(rules, prices), rules[0].codes, rules[0].floors, k, page)
    costs = promise_costs(scores, fair, rules, k, prices=prices, page=page)
    assert {c.kind for c in costs} <= {"price", "floor"}
    moved = [rules[0].names.index(c.group) for c in costs if c.kind == "price" and c.group]
    assert moved == sorted(moved)
    assert set(moved) <= set(np.flatnonzero(prices).tolist())
    assert all(c.cost != 0.0 for c in costs if c.kind == "price")
    assert sum(c.cost for c in costs) == pytest.approx(given_up(scores, fair, k, page), abs=1e-9)


@given(lists(ceilings=True), st.data())
def test_costs_add_up_under_ceilings(drawn: tuple[NDArray[np.float64], list[ListGroups], int, int], data: st.DataObject) -> None:
    """Ceilings are the last entry, and with it the parts are the utility given up."""
    scores, rules, k, page = drawn
    prices = prices_for(data, rules)
    fair = rerank(scores + added(rules, prices), rules, k, page=page)
    costs = promise_costs(scores, fair, rules, k, prices=prices, page=page)
    assert {c.kind for c in costs} <= {"price", "floor", "ceiling"}
    assert sum(c.cost for c in costs) == pytest.approx(given_up(scores, fair, k, page), abs=1e-9)


@given(lists(rules=2, ceilings=True), st.data())
def test_costs_add_up_whatever_the_order(drawn: tuple[NDArray[np.float64], list[ListGroups], int, int], data: st.DataObject) -> None:
    """For any order at all, such as that of overlapping groups, the parts are the utility given up."""
    scores, rules, k, page = drawn
    prices = prices_for(data, rules)
    order = np.array(data.draw(st.permutations(range(len(scores)))))[:k]
    fair = FairRanking(order, np.full(len(order), -1), np.zeros(len(order), np.int64))
    costs = promise_costs(scores, fair, rules, k, prices=prices, page=page)
    assert sum(c.cost for c in costs) == pytest.approx(given_up(scores, fair, k, page), abs=1e-9)


def test_rounding_is_no_promise() -> None:
    """Where a floor leaves next to nothing of the utility, what adding up leaves of the rest is no entry of its own."""
    scores, groups = np.array([0.0, 1e-154, 1.0]), [rule([0, 0, 1], [1.0, 0.0])]
    costs = promise_costs(scores, rank_with_floors(scores, groups[0].codes, groups[0].floors, 1), groups, 1)
    assert [(c.kind, c.cost) for c in costs] == [("floor", 1.0)]


def test_a_floor_behind_free_places_costs_what_it_displaces_there() -> None:
    """With one place free, the floor of half wants b's item within three places, where it pushes the second best down by one."""
    scores = np.array([0.9, 0.8, 0.7, 0.3])
    rules = [rule([0, 0, 0, 1], [0.0, 0.5])]
    fair = rerank(scores, rules, 3, free=1)
    (cost,) = promise_costs(scores, fair, rules, 3, free=1)
    assert fair.order.tolist() == [0, 1, 3]
    assert (cost.kind, cost.group, cost.prefix, cost.index) == ("floor", "b", 3, 3)
    assert cost.cost == pytest.approx((0.7 - 0.3) / math.log2(4))


@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_costs_add_up_behind_free_places(seed: int, free: int, page: int, ceiling: bool) -> None:
    """However many of the first places are free, the parts are what the whole list gave up."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 30)), int(rng.integers(1, 20))
    scores = rng.normal(size=n)
    rules = [rule(rng.integers(0, 2, n), [0.0, 0.4], [0.7, 1.0] if ceiling else None)]
    fair = rerank(scores, rules, k, page=page, free=free)
    parts = promise_costs(scores, fair, rules, k, page=page, free=free)
    assert sum(p.cost for p in parts) == pytest.approx(given_up(scores, fair, k, page), abs=1e-9)
    assert all(p.prefix > free for p in parts if p.prefix)
    assert all(rules[0].codes[p.index] == 1 for p in parts if p.index >= 0)
