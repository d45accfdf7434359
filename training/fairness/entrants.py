"""Who is compared: ours and the published arms, each made anew for a run of lists, some with one strength to tune.

What an entrant can be made to keep differs, and keeping more costs more, so each is held against ours of the same promise:

* ``list``: every group's floor at every prefix of every list;
* ``each``: every group's floor of exposure over all lists;
* ``together``: tail and new as one group, over all lists: arms that know one protected group, or that look at no shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ranking.baselines.arms import ARMS, TUNABLE, Arm
from ranking.baselines.fairco import FairCo
from ranking.fairness.amortised import Account, Delta, delivered, prices, promised, settle
from ranking.fairness.floors import rank_by_score, rank_with_floors
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import Controller
from ranking.types import FloatArray, IntArray

Ranker = Callable[[FloatArray, IntArray, FloatArray, int], IntArray]
"""(scores, groups, floors, k) -> order; may remember the lists it has ranked."""
Promise = Literal["nothing", "list", "each", "together"]

NONE, FLOORS, AMORTISED, TOGETHER = "none", "floors", "amortised", "amortised_together"
OURS: Mapping[Promise, str] = {"list": FLOORS, "each": AMORTISED, "together": TOGETHER}


@dataclass(frozen=True, slots=True)
class Entrant:
    """One way of ranking lists.

    Attributes:
        label: for people.
        promise: what it can be made to keep.
        make: a fresh ranker for `groups` codes at a strength.
        dial: position within [0, 1] -> strength, from weak to strong; None: nothing to tune.
    """

    label: str
    promise: Promise
    make: Callable[[int, float], Ranker]
    dial: Callable[[float], float] | None = None


class Amortised:
    """Ours over many lists: score + price, accounts settled list by list."""

    def __init__(self, groups: int, strength: float) -> None:
        self._controller = Controller(gain=strength)
        self._accounts = [Account() for _ in range(groups)]

    def __call__(self, scores: FloatArray, groups: IntArray, floors: FloatArray, k: int) -> IntArray:
        order = rank_by_score(scores + prices(self._accounts, self._controller)[groups], k)
        rule = ListGroups("", ("",) * len(floors), groups, floors, np.ones(len(floors)))
        owed, got = promised(rule, k), delivered(rule, order)
        self._accounts = [
            settle(a, Delta(1.0, float(o), float(e)), self._controller) for a, o, e in zip(self._accounts, owed, got, strict=True)
        ]
        return order


class AmortisedTogether(Amortised):
    """The same with one account for all groups but the head."""

    def __init__(self, groups: int, strength: float) -> None:
        del groups
        super().__init__(2, strength)

    def __call__(self, scores: FloatArray, groups: IntArray, floors: FloatArray, k: int) -> IntArray:
        return super().__call__(scores, (groups > 0).astype(np.int64), np.array([0.0, floors[1:].sum()]), k)


def _by_score(scores: FloatArray, groups: IntArray, floors: FloatArray, k: int) -> IntArray:
    del groups, floors
    return rank_by_score(scores, k)


def _exact(scores: FloatArray, groups: IntArray, floors: FloatArray, k: int) -> IntArray:
    return rank_with_floors(scores, groups, floors, k).order


def _published(arm: Arm, groups: int, strength: float) -> Ranker:
    del groups
    return partial(arm, strength=strength)


def _gain(position: float) -> float:
    """Prices per list owed, 1e-5 to 1 in units of probability."""
    return float(10.0 ** (5.0 * (position - 1.0)))


def _weight(position: float) -> float:
    """Weights within (0, 1) whose odds go from 1e-3 to 1e2: scores of rare events leave most of the range to small weights."""
    odds = float(10.0 ** (5.0 * position - 3.0))
    return odds / (1.0 + odds)


_LABELS = {
    "det_greedy": "DetGreedy",
    "det_cons": "DetCons",
    "det_relaxed": "DetRelaxed",
    "det_const_sort": "DetConstSort",
    "fa_star_ir": "FA*IR",
    "xquad": "xQuAD",
    "calibrated": "Calibrated (Steck)",
    "mmr": "MMR",
}
_TOGETHER = ("fa_star_ir", "xquad", "calibrated", "mmr")  # FA*IR knows one protected group, the others keep nothing within a list

ENTRANTS: Mapping[str, Entrant] = {
    NONE: Entrant("by score", "nothing", lambda groups, strength: _by_score),
    FLOORS: Entrant("ours, floors per list", "list", lambda groups, strength: _exact),
    AMORTISED: Entrant("ours, amortised", "each", Amortised, _gain),
    TOGETHER: Entrant("ours, amortised, tail and new as one", "together", AmortisedTogether, _gain),
    **{
        name: Entrant(
            _LABELS.get(name, name),
            "together" if name in _TOGETHER else "list",
            partial(_published, arm),
            _weight if name in TUNABLE else None,
        )
        for name, arm in ARMS.items()
    },
    "fairco": Entrant("FairCo", "each", lambda groups, strength: FairCo(groups, strength=strength).rank, _gain),
}
