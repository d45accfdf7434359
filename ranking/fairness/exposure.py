"""What each group got on one list: places and position-discounted exposure, with the fairness policy and without.

Exposure of rank r is 1 / log2(r + 1), DCG's own discount; a group's exposure is its share of the sum over the places that count, the
page's. This module looks at one list; it remembers nothing between lists.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranking.fairness.groups import ListGroups
from ranking.types import FloatArray, GroupExposure, IntArray

_LONGEST: FloatArray = 1.0 / np.log2(np.arange(2, 1026))  # of 1,024 places: a logarithm takes longer than the rest of a report
_LONGEST.flags.writeable = False


def discounts(k: int, behind: int = 0) -> FloatArray:
    """(k,) exposure of ranks behind + 1 … behind + k: 1 / log2(rank + 1). Read-only."""
    last = behind + k
    return _LONGEST[behind:last] if last <= len(_LONGEST) else 1.0 / np.log2(np.arange(behind + 2, last + 2))


def exposure_report(
    before: IntArray,
    after: IntArray,
    rules: Sequence[ListGroups],
    shortfall: IntArray,
    excess: IntArray,
    prices: FloatArray,
    debts: FloatArray,
) -> tuple[GroupExposure, ...]:
    """One line per group of every rule; G is the number of all of them, in the order of the flat group ids of `FairRanking`.

    Args:
        before: (k,) candidate indices ranked by score alone, cut where the page is cut.
        after: (k,) candidate indices under the policy.
        rules: the policy's, on this list.
        shortfall: (G,) places that floors asked for and did not get.
        excess: (G,) places above ceilings.
        prices: (G,) added to the groups' scores.
        debts: (G,) exposure owed before this list, in lists.

    Raises:
        ValueError: the two orders, or the per-group arguments, differ in length.
    """
    if len(before) != len(after):
        raise ValueError(f"before, after: must show equally many results, got {len(before)} and {len(after)}")
    total = sum(len(r.names) for r in rules)
    per_group = {"shortfall": shortfall, "excess": excess, "prices": prices, "debts": debts}
    if any(len(v) != total for v in per_group.values()):
        got = ", ".join(f"{len(v)} {name}" for name, v in per_group.items())
        raise ValueError(f"{', '.join(per_group)}: need one per group ({total}), got {got}")
    weights = discounts(len(after))
    whole = max(float(weights.sum()), 1e-12)  # an empty list exposes nobody
    numbers = [v.tolist() for v in per_group.values()]
    out: list[GroupExposure] = []
    for rule in rules:
        g, start = len(rule.names), len(out)
        shown, first = rule.codes[after], rule.codes[before]
        columns = (
            np.bincount(rule.codes, minlength=g),
            rule.floors,
            rule.ceilings,
            np.bincount(shown, minlength=g),
            np.bincount(shown, weights, g) / whole,
            np.bincount(first, minlength=g),
            np.bincount(first, weights, g) / whole,
        )
        # In the order of the fields of `GroupExposure`, from `group` on.
        rows = zip(rule.names, *(c.tolist() for c in columns), *(v[start : start + g] for v in numbers), strict=True)
        out.extend(GroupExposure(rule.attribute, *row) for row in rows)
    return tuple(out)
