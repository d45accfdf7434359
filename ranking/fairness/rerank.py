"""One list under all rules of a policy at once: the entry that picks the solver.

No rules: by score. One rule without ceilings: exact floors. One with ceilings: exact windows. Several rules, or places reserved for ads:
bounds, with the gap reported. Positions weigh what DCG gives them. Knows groups and shares; not where they come from, nor what was shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.exposure import discounts
from ranking.fairness.floors import GUARD, FairRanking, rank_by_score, with_floors
from ranking.fairness.groups import ListGroups
from ranking.fairness.overlap import rank_with_bounds
from ranking.fairness.windows import rank_with_windows, with_rest
from ranking.types import FloatArray, IntArray


def rerank(
    scores: FloatArray,
    rules: Sequence[ListGroups],
    k: int,
    *,
    page: int = 0,
    free: int = 0,
    slots: Sequence[int] = (),
    sponsored: NDArray[np.bool_] | None = None,
) -> FairRanking:
    """The best order of the first `k` places that keeps every rule's floors and ceilings, as far as its candidates go.

    Args:
        scores: (n,) finite floats, higher is better.
        rules: what each attribute's groups are guaranteed on this list.
        k: places to fill, at least 1; capped at n.
        page: how many of the first places floors and ceilings cover; what stands behind is by score. 0: all k.
        free: how many of the first places are by score and not covered: floors and ceilings count the places behind them, and the
            candidates that are left. Not with `slots`.
        slots: 1-based places for sponsored candidates: these and no others, while there are sponsored and organic ones left.
        sponsored: (n,) who may stand there; needed with `slots`.

    Returns:
        The ranking of K = min(k, n) places; its group ids count through the rules, without the slots.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    scores = np.asarray(scores, np.float64)
    if k < 1:
        raise ValueError(f"k: must be at least 1, got {k}")
    for name, value in (("page", page), ("free", free)):
        if value < 0:
            raise ValueError(f"{name}: must not be negative, got {value}")
    if free and len(slots):
        raise ValueError(f"free: not with slots, got {free} and {list(slots)}")
    k = min(k, len(scores))
    covered = min(page, k) or k
    if not free:
        return _covered(scores, rules, k, covered, slots=slots, sponsored=sponsored)
    if free >= covered:
        return _by_score(scores, rules, k)
    first = rank_by_score(_finite(scores), free)
    left = np.delete(np.arange(len(scores)), first)
    behind = _covered(scores[left], [rule.take(left) for rule in rules], k - free, covered - free, behind=free)
    none = np.zeros(free, np.int64)
    return replace(
        behind,
        order=np.concatenate((first, left[behind.order])),
        binding=np.concatenate((none - 1, behind.binding)),
        prefix=np.concatenate((none, np.where(behind.binding < 0, 0, behind.prefix + free))),
    )


def _covered(
    scores: FloatArray,
    rules: Sequence[ListGroups],
    k: int,
    covered: int,
    *,
    behind: int = 0,
    slots: Sequence[int] = (),
    sponsored: NDArray[np.bool_] | None = None,
) -> FairRanking:
    """`k` places, of which the rules hold for the first `covered`; `behind` places stand before them."""
    if len(slots) and k:
        bounds = [_bounds(rule, covered, k) for rule in rules]
        codes, lower, upper = _slots(slots, sponsored, len(scores), k)
        return _overlapping(scores, rules, [(r.codes, *b) for r, b in zip(rules, bounds, strict=True)] + [(codes, lower, upper)])
    capped = [min(rule.ceilings.tolist(), default=1.0) < 1.0 for rule in rules]
    active = [r for r, rule in enumerate(rules) if capped[r] or any(rule.floors.tolist())]
    if not active or k == 0:
        return _by_score(scores, rules, k)
    if len(active) > 1:
        return with_rest(_overlapping(scores, rules, [(r.codes, *_bounds(r, covered, covered)) for r in rules], behind), scores, k)
    rule = rules[active[0]]
    if capped[active[0]]:
        alone = rank_with_windows(scores, rule.codes, rule.floors, rule.ceilings, k, discounts(covered, behind), covered)
    else:
        alone = with_floors(_finite(scores), rule.codes, rule.floors, k, covered)
    return alone if len(rules) == 1 else _among(alone, rules, active[0])


def _by_score(scores: FloatArray, rules: Sequence[ListGroups], k: int) -> FairRanking:
    """Nothing is promised."""
    none = np.zeros(sum(len(r.names) for r in rules), np.int64)
    return FairRanking(rank_by_score(_finite(scores), k), np.full(k, -1), np.zeros(k, np.int64), none, none)


def _among(fair: FairRanking, rules: Sequence[ListGroups], r: int) -> FairRanking:
    """The result of rule `r` alone with the group ids of all rules."""
    at = sum(len(rule.names) for rule in rules[:r])
    shortfall, excess = np.zeros((2, sum(len(rule.names) for rule in rules)), np.int64)
    shortfall[at : at + len(fair.shortfall)] = fair.shortfall
    excess[at : at + len(fair.excess)] = fair.excess
    return FairRanking(fair.order, np.where(fair.binding < 0, -1, fair.binding + at), fair.prefix, shortfall, excess, fair.gap)


def _finite(scores: FloatArray) -> FloatArray:
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"scores: must be one list of finite numbers, got shape {scores.shape}")
    return scores


def _bounds(rule: ListGroups, covered: int, k: int) -> tuple[IntArray, IntArray]:
    """Two (g, k) tables: the least and the most places of each group among the first 1 … k, if the rule holds for `covered` of them."""
    places = np.arange(1, k + 1)
    inside = np.minimum(places, covered)
    lower = np.floor(np.outer(rule.floors, inside) + GUARD).astype(np.int64)
    upper = np.ceil(np.outer(rule.ceilings, inside) - GUARD).astype(np.int64)
    return lower, np.where(places <= covered, upper, places)


def _slots(slots: Sequence[int], sponsored: NDArray[np.bool_] | None, n: int, k: int) -> tuple[IntArray, IntArray, IntArray]:
    """One more attribute, organic or sponsored, with exact bounds: how many of each stand among the first 1 … k."""
    if sponsored is None or np.shape(sponsored) != (n,):
        raise ValueError(f"sponsored: slots need one flag per score, got {None if sponsored is None else np.shape(sponsored)} for {n}")
    places = np.arange(1, k + 1)
    codes = np.asarray(sponsored, bool).astype(np.int64)
    ads = int(codes.sum())
    reserved = np.isin(places, np.asarray(slots)).cumsum()
    shown = np.minimum(np.maximum(reserved, places - (n - ads)), ads)
    exact = np.array([places - shown, shown])
    return codes, exact, exact


def _overlapping(
    scores: FloatArray, rules: Sequence[ListGroups], attributes: Sequence[tuple[NDArray[Any], IntArray, IntArray]], behind: int = 0
) -> FairRanking:
    """Several attributes' (n,) codes and (g, K) lower and upper bounds as one problem; reported are the rules' groups."""
    sizes = [len(lower) for _, lower, _ in attributes]
    codes = np.array([c + at for (c, _, _), at in zip(attributes, np.cumsum(sizes) - sizes, strict=True)])
    lower = np.concatenate([low for _, low, _ in attributes])
    upper = np.concatenate([high for _, _, high in attributes])
    fair = rank_with_bounds(scores, codes, lower, upper, discounts(lower.shape[1], behind))
    g = sum(len(r.names) for r in rules)
    ours = fair.binding < g
    return FairRanking(
        fair.order, np.where(ours, fair.binding, -1), np.where(ours, fair.prefix, 0), fair.shortfall[:g], fair.excess[:g], fair.gap
    )
