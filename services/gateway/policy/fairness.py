"""The fairness step of one list: from scores, the policy's groups and what they are owed to an order, and what that order did to whom.

Pure: accounts come in, changes to them go out. Knows neither where scores come from nor who keeps the accounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures, UserFeatures, relations
from ranking.fairness.amortised import Account, Delta, delivered, prices, promised
from ranking.fairness.costs import list_utility, promise_costs
from ranking.fairness.exposure import exposure_report
from ranking.fairness.floors import FairRanking, rank_by_score
from ranking.fairness.groups import Attribute, ListGroups, coded_attribute, keyed_attribute, list_groups
from ranking.fairness.policy import ITEM_ATTRIBUTES, FairnessPolicy
from ranking.fairness.rerank import rerank
from ranking.types import Fairness, FloatArray, GroupExposure, IntArray

_NOBODY = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Page:
    """How many places there are, and who may stand where."""

    k: int  # results
    length: int  # of them on the page; floors, ceilings and exposure cover these
    free: int = 0  # of the page, the first places, which floors and ceilings leave alone
    slots: tuple[int, ...] = ()  # 1-based places reserved for ads
    sponsored: NDArray[np.bool_] | None = None  # (n,) which candidates are ads; with `slots`


@dataclass(frozen=True, slots=True)
class Fair:
    """One list in the order it is returned in, and what the policy did to it.

    Attributes:
        ranking: of the k results.
        groups: the policy's groups on this list and what they are promised.
        bound: the same with the shares that bound this very order; none where only the exposure of many lists counts, or nothing is
            enforced.
        page: the page as the policy orders it, candidates best first; what the accounts get.
        lifts: (n,) price of each candidate's groups, in units of the score; None: nobody has one, or it did not count here.
        exposure: a line per group, as the policy orders the list.
        fairness: the policy's effect on utility, candidates counted as in the scores; None for a policy that is off.
    """

    ranking: FairRanking
    groups: tuple[ListGroups, ...]
    bound: tuple[ListGroups, ...]
    page: IntArray = field(default_factory=lambda: _NOBODY)
    lifts: FloatArray | None = None
    exposure: tuple[GroupExposure, ...] = ()
    fairness: Fairness | None = None


def groups_of(
    policy: FairnessPolicy, user: UserFeatures, items: ItemFeatures, names: Mapping[int, str], merit: FloatArray
) -> tuple[ListGroups, ...]:
    """The policy's groups among n candidates.

    Args:
        policy: whose rules.
        user: who asks.
        items: (n,) the candidates.
        names: what each of `items.attribute_keys` stands for.
        merit: (n,) the candidates' probabilities.
    """
    needed = [rule.attribute for rule in policy.rules] or ["popularity_tier"]
    found = {name: _relation(user, items) if name == "relation" else attribute_of(name, items, names) for name in needed}
    return list_groups(policy, found, merit)


def attribute_of(name: str, items: ItemFeatures, names: Mapping[int, str]) -> Attribute:
    """What n items have of one attribute that is theirs alone."""
    if name == "popularity_tier":
        return coded_attribute(name, items.tiers)
    return keyed_attribute(items.attribute_keys[:, ITEM_ATTRIBUTES.index(name)], names)


def _relation(user: UserFeatures, items: ItemFeatures) -> Attribute:
    return coded_attribute("relation", relations(user, items))


def rank_fairly(
    policy: FairnessPolicy,
    scores: FloatArray,
    groups: tuple[ListGroups, ...],
    owed: Sequence[Sequence[Account]],
    page: Page,
    *,
    costs: bool = False,
) -> Fair:
    """Order one list.

    With `enforce` it is ranked by score + price under the floors and ceilings; with `report_only` and `off` by score alone. With
    `report_only` the report says what enforcing would have done, and the accounts get that, too: given what the list as returned did,
    they would owe ever more, the report would soon tell of nothing but the group paid back, and enforcing at last would begin with it.

    Args:
        policy: decides.
        scores: (n,) finite.
        groups: from `groups_of`, of the same candidates.
        owed: per rule, one account per group.
        page: the places.
        costs: work out what each promise cost, too.
    """
    if page.k == 0:
        return Fair(
            FairRanking(_NOBODY, _NOBODY, _NOBODY), groups, groups, fairness=None if policy.mode == "off" else Fairness(0.0, 0.0, 0.0)
        )
    by_score = rank_by_score(scores, page.k)
    if policy.mode == "off":
        return Fair(_plain(scores, by_score, page), groups, _unbound(groups))
    bound = groups if policy.scope != "amortised" else tuple(replace(g, floors=np.zeros(len(g.names))) for g in groups)
    debts = lambdas = np.zeros(sum(map(len, owed)))
    lifts = None
    if policy.scope != "list":
        debts = np.array([account.debt for rule in owed for account in rule])
        lambdas = np.concatenate([prices(rule, policy.controller) for rule in owed])
        if lambdas.any():
            lifts = _lifts(groups, lambdas)
    fair = _reranked(scores if lifts is None else scores + lifts, bound, page)
    before, after = by_score[: page.length], fair.order[: page.length]
    report = exposure_report(before, after, groups, fair.shortfall, fair.excess, lambdas, debts)
    parts = promise_costs(scores, fair, bound, page.k, prices=lambdas, page=page.length, free=page.free, slots=page.slots) if costs else ()
    effect = Fairness(list_utility(scores, before), list_utility(scores, after), fair.gap, parts)
    if policy.mode == "enforce":
        return Fair(fair, groups, bound, after, lifts, report, effect)
    return Fair(_plain(scores, by_score, page), groups, _unbound(groups), after, None, report, effect)


def keeps_accounts(policy: FairnessPolicy) -> bool:
    """Whether lists under the policy owe each other anything: floors of single lists are kept there and then, or never."""
    return policy.mode != "off" and policy.scope != "list" and bool(policy.rules)


def deltas(policy: FairnessPolicy, fair: Fair, page: Page) -> Iterator[tuple[ListGroups, tuple[Delta, ...]]]:
    """What a list changes in the accounts of each rule's groups; nothing for a policy that keeps none."""
    if not keeps_accounts(policy) or not page.k:
        return
    for rule in fair.groups:
        pairs = zip(promised(rule, page.length).tolist(), delivered(rule, fair.page).tolist(), strict=True)
        yield rule, tuple(Delta(1.0, target, got) for target, got in pairs)


def _plain(scores: FloatArray, by_score: IntArray, page: Page) -> FairRanking:
    """The page without the policy's promises: by score, with ads in their places."""
    if page.slots:
        return _reranked(scores, (), replace(page, length=0))
    return FairRanking(by_score, np.full(page.k, -1), np.zeros(page.k, np.int64))


def _reranked(scores: FloatArray, groups: Sequence[ListGroups], page: Page) -> FairRanking:
    if not page.slots or page.sponsored is None:
        return rerank(scores, groups, page.k, page=page.length, free=page.free)
    # Behind the page and the last slot only organic results are left, by score: the search need not go there.
    first = min(max(page.length, page.slots[-1]), page.k)
    fair = rerank(scores, groups, first, page=page.length, slots=page.slots, sponsored=page.sponsored)
    left = ~page.sponsored
    left[fair.order] = False
    rest = np.flatnonzero(left)
    rest = rest[rank_by_score(scores[rest], page.k - first)]
    return replace(
        fair,
        order=np.concatenate((fair.order, rest)),
        binding=np.concatenate((fair.binding, np.full(len(rest), -1))),
        prefix=np.concatenate((fair.prefix, np.zeros(len(rest), np.int64))),
    )


def _lifts(groups: Sequence[ListGroups], lambdas: FloatArray) -> FloatArray:
    """(n,) sum of the prices of each candidate's groups."""
    starts = np.cumsum([0, *(len(g.names) for g in groups)])
    out: FloatArray = np.sum([lambdas[start + g.codes] for start, g in zip(starts[:-1].tolist(), groups, strict=True)], axis=0)
    return out


def _unbound(groups: Sequence[ListGroups]) -> tuple[ListGroups, ...]:
    """The same groups, promised nothing."""
    return tuple(replace(g, floors=np.zeros(len(g.names)), ceilings=np.ones(len(g.names))) for g in groups)
