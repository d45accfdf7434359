"""Shares of exposure kept over many lists: what each group is owed, and the price that pays it back.

A floor too small for one list (`floor(K p) = 0` where `p < 1 / K`) can still be kept over many. Every (surface, policy, group) has an
account of the exposure promised and delivered; candidates are ranked by score + price of their group, and the price follows from the
account. Exposure is counted in lists: one list hands out 1 in all, rank r its share of Σ 1 / log2(r + 1) over the page.

The controller `dual` is dual descent (virtual queues: Neely 2010, chapter 4) changed in three ways:

- It keeps a reserve. An account rests at half the debt bound of *surplus*, so that the noise of single lists is not a debt. The reserve
  is bought once, and lets the gain, which costs on every list, be small.
- Two walls. The pull on the price grows without limit towards a debt of the bound, where the group outranks everything, and towards a
  surplus of the bound, where the price is 0; a larger surplus is forgotten, so that it is no licence for later neglect.
- The price has a slow part that learns the level that keeps the account at rest, so that a lasting need is no lasting debt.

What is certain: with G groups, scores within [0, S] and every list ranked by score + price of settled accounts, and by nothing else (not by
other rules, ceilings or ad slots as well), no account ever owes more than `deficit_limit`, debt_bound + 1 + (G - 1)(2 + h) lists with
h = (S / gain + 80 debt_bound) / 1e6, which should be far below 1; whatever the scores and candidates are. As no surplus above debt_bound
is remembered, that plus debt_bound limits the deficit over *any* run of lists. Usually a debt stays below debt_bound.
Sketch: beyond the bound prices are so steep that a group h lists deeper in debt outranks another wholly. Let c_m = Σ_{i ≤ m} (1 +
(G - i)(2 + h)). Then for every m the m largest debts together stay at most m debt_bound + c_m: were a set M of m groups to step over it,
each of M was beyond the bound before, and more than h deeper in debt than any group outside, for else the m - 1 or the m + 1 largest
debts had been over their own limit. So M held the first places and got the most that its candidates can get, at least what `promised`
promises any set of groups: its sum cannot have risen. m = 1 is the claim. With lists served on accounts that have not heard of one
another (replicas), add the exposure promised on those.

Pure functions: the caller keeps the accounts, reads them before a list and settles what lists did to them, one by one or many merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranking.fairness.exposure import discounts
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import Controller
from ranking.types import FloatArray, IntArray

_PACE = 1 / 200  # per list: how fast the slow part of a price follows; slower than the accounts' noise, faster than a day
_REST = 0.5  # of the debt bound: the surplus at which a price rests, the reserve against noise
_WALL = 1e6  # the most by which nearness to the debt bound multiplies the pull: above any score, and 10 digits of it remain
_LEARNT = 4.0  # debt bounds: the slow part learns from no stronger pull; at a wall it would run away
_FADE = (
    1 / 20
)  # of the pace: how fast the slow part forgets; else promises of everything, which leave no reserve, raise all prices for ever


@dataclass(frozen=True, slots=True)
class Account:
    """Exposure of one group on one surface under one policy; a group not seen before has the default.

    Attributes:
        lists: lists settled.
        target: exposure promised on them, in lists.
        got: exposure delivered on them, in lists.
        debt: exposure owed now, in lists; negative: a surplus, of which no more than the debt bound is remembered.
        level: slow part of the price, in units of the score.
    """

    lists: float = 0.0
    target: float = 0.0
    got: float = 0.0
    debt: float = 0.0
    level: float = 0.0


@dataclass(frozen=True, slots=True)
class Delta:
    """What one list, or several merged, did for one group; additive."""

    lists: float
    target: float
    got: float

    def __add__(self, other: Delta) -> Delta:
        return Delta(self.lists + other.lists, self.target + other.target, self.got + other.got)

    def __mul__(self, times: float) -> Delta:
        """As if it had happened `times`.

        A replica that does not know yet what the others served must not pay everyone's debt alone: until it hears of them it settles
        its own view with each of its deltas times (lists of all) / (lists of its own). The store gets the deltas as they are. Without
        it, three replicas that each serve more than about ten lists between exchanges overshoot further and further.
        """
        return Delta(self.lists * times, self.target * times, self.got * times)


def settle(account: Account, delta: Delta, controller: Controller) -> Account:
    """The account after the lists of `delta`, whoever served them.

    Merged lists give the debt they give one by one, except that a surplus is forgotten once, at the end: the debt is lower by at most what
    the group fell behind within the batch. The level uses the pull at the end for all of them: it is off by at most lists / 200 * (gain *
    range of the pull, cut off at 4 debt_bound, + range of the level / 20) within the batch; from more than 200 lists it learns as from 200.

    Args:
        account: before.
        delta: what is to be counted.
        controller: the policy's; all callers must have the same.
    """
    bound, gain = controller.debt_bound, controller.gain
    debt = max(account.debt + delta.target - delta.got, -bound)
    learnt = gain * min(max(_pull(debt, bound), -_LEARNT * bound), _LEARNT * bound)
    level = max(0.0, account.level + min(_PACE * delta.lists, 1.0) * (learnt - _FADE * account.level))
    return Account(account.lists + delta.lists, account.target + delta.target, account.got + delta.got, debt, level)


def prices(accounts: Sequence[Account], controller: Controller) -> FloatArray:
    """(g,) amounts ≥ 0 to add to the scores of each group's candidates, in units of the score; 0 where nothing was ever promised."""
    if controller.kind == "fairco":
        return _fairco(accounts, controller)
    return np.array(
        [max(0.0, a.level + controller.gain * _pull(a.debt, controller.debt_bound)) if a.target > 0.0 else 0.0 for a in accounts]
    )


def promised(groups: ListGroups, k: int) -> FloatArray:
    """(g,) shares of a list's exposure that its floors promise, as far as its candidates can be given them.

    Any set of m candidates gets at most the m best places, W(m) of the exposure; promises to groups of n_g candidates can be kept, in
    the mean of many lists, if and only if every set of groups H is promised at most W(Σ_H n_g) (a polymatroid: Edmonds 1970). Where
    they cannot, they are cut greedily, the groups promised most per candidate first: E_j = min(E_{j-1} + p_j, W(n_1 + … + n_j)).

    Args:
        groups: floors are the shares promised.
        k: places of the page; as many as there are candidates if these are fewer.

    Returns:
        At most the floors, 0 for a group without candidates. O(n + g log g).
    """
    counts = np.bincount(groups.codes, minlength=len(groups.names))
    weights = discounts(min(k, len(groups.codes)))
    best = np.concatenate(([0.0], np.cumsum(weights) / max(weights.sum(), 1e-300)))  # W(0) … W(K)
    dense = np.argsort(-groups.floors / np.maximum(counts, 1e-9), kind="stable")
    asked = np.cumsum(groups.floors[dense])
    most = best[np.minimum(np.cumsum(counts[dense]), len(weights))]
    kept = asked + np.minimum.accumulate(np.minimum(most - asked, 0.0))
    out = np.empty(len(dense))
    out[dense] = np.diff(kept, prepend=0.0)
    return np.clip(out, 0.0, groups.floors)


def deficit_limit(groups: int, controller: Controller, span: float) -> float:
    """Lists that no account of `dual` can come to owe; see the module for when and why.

    Args:
        groups: how many are promised something.
        controller: of kind `dual`.
        span: highest minus lowest score there can be.
    """
    steep = (span / controller.gain + _LEARNT / _FADE * controller.debt_bound) / _WALL
    return controller.debt_bound + 1.0 + (groups - 1) * (2.0 + steep)


def delivered(groups: ListGroups, order: IntArray) -> FloatArray:
    """(g,) shares of a list's exposure that each group got.

    Args:
        groups: of the list's candidates.
        order: (k,) candidate indices on the page, best first.
    """
    weights = discounts(len(order))
    got: FloatArray = np.bincount(groups.codes[order], weights=weights, minlength=len(groups.names)) / max(weights.sum(), 1e-300)
    return got


def _pull(debt: float, bound: float) -> float:
    """Lists away from rest, growing without limit towards a debt, and a surplus, of `bound`; increasing in `debt`."""
    near = debt / bound
    return (debt + _REST * bound) / max(1.0 - near * near, 1.0 / _WALL)


def _fairco(accounts: Sequence[Account], controller: Controller) -> FloatArray:
    """Morik, Singh, Hong, Joachims (SIGIR 2020), section 5: a proportional controller of the disparity in exposure over merit."""
    per_merit = [a.got / a.target if a.target > 0.0 else None for a in accounts]
    most = max((ratio for ratio in per_merit if ratio is not None), default=0.0)
    # Times the lists so far: each group's own, as some may have been promised something on fewer of them.
    return np.array(
        [0.0 if ratio is None else controller.gain * a.lists * (most - ratio) for a, ratio in zip(accounts, per_merit, strict=True)]
    )
