"""What each promise of a policy cost one list, so that the costs add up to what the whole policy cost.

A list's utility is Σ score / log2(rank + 1) over its page, in the scores without prices. The promises are added one after the other in a
fixed order, and each costs what the utility falls by when it comes in: telescoping, the costs sum to utility by score alone minus utility
as returned. As with marginal costs in general, one promise's part depends on those before it; their sum does not. This module knows
scores, groups and orders; not what a price is for, nor how the returned order was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ranking.fairness.exposure import discounts
from ranking.fairness.floors import GUARD, FairRanking, rank_by_score, rank_with_minima
from ranking.fairness.groups import ListGroups
from ranking.types import ConstraintCost, FloatArray, IntArray

_SINGLY = 32  # entries of a kind listed one by one: nobody reads more, and a list of 1,000 places would take seconds
_ROUNDING = 1e-12  # of the utility: what two ways of adding up the same list differ by


def list_utility(scores: FloatArray, order: IntArray, page: int = 0, behind: int = 0) -> float:
    """Σ score / log2(rank + 1) over the first `page` results; 0: all of them.

    Args:
        scores: (n,) without prices.
        order: (K,) indices into `scores`, best first.
        page: places that count.
        behind: places before the first of `order`.
    """
    shown = scores[order[:page] if page else order]
    return float(shown @ discounts(len(shown), behind))


def promise_costs(
    scores: FloatArray,
    fair: FairRanking,
    rules: Sequence[ListGroups],
    k: int,
    *,
    prices: FloatArray | None = None,
    page: int = 0,
    free: int = 0,
    slots: Sequence[int] = (),
) -> tuple[ConstraintCost, ...]:
    """What each promise cost, given those before it, in this order:

    1. `price`: one entry per group whose price moves something, rule by rule;
    2. `floor`: the first rule's floors, one entry per place that the order before it did not keep, the shortest prefix first;
    3. one entry for what is left: `ceiling` where one rule's ceilings are all there is, else `overlap` (further attributes, ad slots).

    Promises that the order before them keeps anyway cost nothing and are left out. After the first 32 prices, and the first 32 places,
    the others are one entry without a group; so are the prices of groups that neither list shows.

    Args:
        scores: (n,) finite, without prices.
        fair: the order as returned, made from scores plus prices by these very rules.
        rules: as given to `rerank`; a rule whose shares are only kept over many lists comes with floors of 0.
        k: places asked for.
        prices: (G,) per group of all rules, flat as in `FairRanking`, in units of the score; None: none.
        page: places that floors and utility cover; 0: all k.
        free: of them, the first places that are by score, as given to `rerank`.
        slots: places reserved for ads, if any.

    Returns:
        Costs in units of the score; they sum to `list_utility` by score alone minus that of `fair`. Without prices and ad slots floors
        cost at least 0, because a best order under fewer constraints is never worse. `index` counts as in `scores`.

    Raises:
        ValueError: there is not one price per group.

    O(n + k log k) per group with a price, O(k log k) per entry of a floor.
    """
    covered = min(page or k, k, len(scores))
    if not free:
        return tuple(_costs(scores, fair.order, rules, k, prices, covered, slots, 0))
    if free >= covered:
        return ()
    left = np.delete(np.arange(len(scores)), fair.order[:free])
    order = np.searchsorted(left, fair.order[free:])
    found = _costs(scores[left], order, [rule.take(left) for rule in rules], k - free, prices, covered - free, (), free)
    return tuple(
        replace(cost, prefix=cost.prefix and cost.prefix + free, index=int(left[cost.index]) if cost.index >= 0 else -1) for cost in found
    )


def _costs(
    scores: FloatArray,
    order: IntArray,
    rules: Sequence[ListGroups],
    k: int,
    prices: FloatArray | None,
    page: int,
    slots: Sequence[int],
    behind: int,
) -> list[ConstraintCost]:
    """What the promises cost on `k` places behind others; `order` is the list as returned."""
    costs: list[ConstraintCost] = []
    by_score = rank_by_score(scores, k)
    before = list_utility(scores, by_score, page, behind)
    priced = scores
    for attribute, group, lift in _prices(rules, prices, len(scores), np.union1d(by_score, order)):
        priced = priced + lift
        after = list_utility(scores, rank_by_score(priced, k), page, behind)
        if after != before:
            costs.append(ConstraintCost("price", attribute, group, 0, -1, before - after))
        before = after
    if rules and k > 0 and len(scores):
        for cost in _floor_costs(scores, priced, rules[0], min(k, len(scores)), page, behind):
            costs.append(cost)
            before -= cost.cost
    rest = before - list_utility(scores, order, page, behind)
    if abs(rest) > _ROUNDING * max(list_utility(np.abs(scores), shown, page, behind) for shown in (by_score, order)):
        ceilings = len(rules) == 1 and not slots and bool((rules[0].ceilings < 1.0).any())
        kind, attribute = ("ceiling", rules[0].attribute) if ceilings else ("overlap", "")
        costs.append(ConstraintCost(kind, attribute, "", 0, -1, rest))
    return costs


def _prices(rules: Sequence[ListGroups], prices: FloatArray | None, n: int, shown: IntArray) -> Iterator[tuple[str, str, FloatArray]]:
    """Attribute and group of each price, and what it adds to each of the n candidates; the others last and together, without names."""
    if prices is None:
        return
    if len(prices) != (g := sum(len(rule.names) for rule in rules)):
        raise ValueError(f"prices: need one per group ({g}), got {len(prices)}")
    start, room, rest = 0, _SINGLY, np.zeros(n)
    for rule in rules:
        others = prices[start : start + len(rule.names)].copy()
        start += len(rule.names)
        listed = [group for group in np.unique(rule.codes[shown]).tolist() if others[group]][:room]
        room -= len(listed)
        for group in listed:
            yield rule.attribute, rule.names[group], np.where(rule.codes == group, others[group], 0.0)
        others[listed] = 0.0
        rest += others[rule.codes]
    if rest.any():
        yield "", "", rest


def _floor_costs(scores: FloatArray, priced: FloatArray, rule: ListGroups, k: int, page: int, behind: int) -> Iterator[ConstraintCost]:
    """The floors of one rule, place by place.

    The best order under the floors so far is only worked out anew where it does not keep the next one: if it does, it is the best order
    under that one, too.
    """
    g = len(rule.names)
    places = np.minimum(np.arange(1, k + 1), page)
    asked = np.floor(rule.floors[:, None] * places + GUARD).astype(np.int64)  # (g, k)
    minima = np.minimum(asked, np.bincount(rule.codes, minlength=g)[:, None])  # nobody can give what is not there
    pool = _pool(priced, rule.codes, minima[:, -1], k)
    scores, priced, codes = scores[pool], priced[pool], rule.codes[pool]
    order = rank_by_score(priced, k)
    before = list_utility(scores, order, page, behind)
    kept, entries = np.zeros_like(minima), 0

    def added(group: str, prefix: int, nth: int) -> ConstraintCost:
        """The cost of what `kept` has gained; the order and its utility move on."""
        nonlocal order, before
        order, was = rank_with_minima(priced, codes, kept, k).order, before
        before = list_utility(scores, order, page, behind)
        placed = int(pool[order[np.flatnonzero(codes[order] == rule.names.index(group))[nth]]]) if group else -1
        return ConstraintCost("floor", rule.attribute, group, prefix, placed, was - before)

    for column, group in np.argwhere(np.diff(minima, axis=1, prepend=0).T).tolist():  # the shortest prefix first
        nth = int(kept[group, column])
        lacking = np.count_nonzero(codes[order[: column + 1]] == group) <= nth
        if lacking and entries == _SINGLY:
            kept = minima
            yield added("", 0, 0)
            break
        kept[group, column:] += 1
        if lacking:
            entries += 1
            yield added(rule.names[group], column + 1, nth)


def _pool(priced: FloatArray, codes: IntArray, due: IntArray, k: int) -> IntArray:
    """Ascending indices of all candidates that any floors up to `due` (g,) can show: the best k, and the best `due` of each group."""
    wanted = [rank_by_score(priced, k)]
    for group in np.flatnonzero(due).tolist():
        mine = np.flatnonzero(codes == group)
        wanted.append(mine[rank_by_score(priced[mine], int(due[group]))])
    return np.unique(np.concatenate(wanted))
