"""The fairness policies a release is born with, and what they make of measured lists; `longtail policy apply` changes them later.

A price for exposure owed is added to a score, so its size depends on how far the scores of one list lie apart. That is measured on
validation lists, per surface.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.auction.second_price import expected_value
from ranking.fairness.groups import coded_attribute, list_groups
from ranking.fairness.policy import Controller, FairnessPolicy, GroupRule, Share
from ranking.fairness.rerank import rerank
from ranking.fairness.windows import with_rest
from ranking.features import MODEL_COLUMNS
from ranking.types import Surface
from training.lists.arrays import EvalLists
from training.lists.bids import bids

RESERVE_MICROS = 5_000  # half a cent per click: without a reserve the last ad of a list is free
FLOOR = 0.2  # of the first places, for tail items; new ones get half of it
MOST_FLOOR = 2 / 3  # with half as much for new items nothing is left for the head
SHARES = (GroupRule("popularity_tier", {"tail": Share(0.5, "of_candidates"), "new": Share(0.5, "of_candidates")}),)
ACTIVE_POLICY = "tail-floor"
OWN = 0.5  # most of places 11 to 50, by `discovery`, for what the user has bought before
GAIN = 0.2  # of the standard deviation of a list's scores, per list of exposure owed
_PRICE = MODEL_COLUMNS.index("price_28d")


def shipped(spreads: Mapping[Surface, float]) -> tuple[FairnessPolicy, ...]:
    """The policies of a new release.

    `tail-floor` (the default) and `tail-report` promise places on every list, `tail-share-…` exposure over all lists of a surface;
    `discovery` keeps room behind the first ten for what is new to the user; `none` ranks by score.

    Args:
        spreads: surface -> standard deviation of a list's scores, from `spread`.
    """
    amortised = (
        FairnessPolicy(
            f"tail-share-{surface.value}",
            "1",
            SHARES,
            scope="amortised",
            surfaces=(surface,),
            page_length=10,
            controller=Controller(gain=_two_digits(max(GAIN * spread, 1e-6))),
            reserve_micros=RESERVE_MICROS,
        )
        for surface, spread in spreads.items()
    )
    return (
        FairnessPolicy(ACTIVE_POLICY, "1", (_floors(FLOOR),), reserve_micros=RESERVE_MICROS),
        FairnessPolicy("tail-report", "1", (_floors(FLOOR),), mode="report_only", reserve_micros=RESERVE_MICROS),
        *amortised,
        discovery(OWN),
        FairnessPolicy("none", "1", mode="off", reserve_micros=RESERVE_MICROS),
    )


def check_floor(floor: float, key: str = "floor") -> None:
    """Refuse what is no floor.

    Raises:
        ValueError: naming the key.
    """
    if not 0.0 <= floor <= MOST_FLOOR:
        raise ValueError(f"{key}: must be from 0 to {MOST_FLOOR:.3g}, since new items get half as much again, got {floor:g}")


def tail_floor(floor: float, surface: Surface) -> FairnessPolicy:
    """The policy of a floor that a search chose: that share of the first ten places for tail items, half of it for new ones.

    Raises:
        ValueError: a share that is none, or leaves nothing for the head.
    """
    check_floor(floor)
    return FairnessPolicy(f"tail-floor-{surface.value}", "1", (_floors(floor),), surfaces=(surface,), reserve_micros=RESERVE_MICROS)


def floored(floor: float, probabilities: NDArray[np.float64], lists: EvalLists, k: int = 10) -> NDArray[np.float64]:
    """(N,) scores that put each list in the order that a floor makes of it."""
    policy = tail_floor(floor, Surface.SEARCH)  # on one list it orders alike on any surface
    return ordered(policy, probabilities, lists.offsets, {"popularity_tier": lists.tiers}, k)


def discovery(own: float) -> FairnessPolicy:
    """The first ten places by score, and of those up to 50 at most the share `own` for what the user has bought before.

    Repeat purchases fill the first places whatever the ranker, and rightly so; what a user may find is found behind them.
    """
    rule = GroupRule("relation", ceilings={"own": own})
    return FairnessPolicy("discovery", "1", (rule,), page_length=50, free_places=10, reserve_micros=RESERVE_MICROS)


def ordered(
    policy: FairnessPolicy, scores: NDArray[np.float64], offsets: NDArray[np.int64], codes: Mapping[str, NDArray[Any]], k: int
) -> NDArray[np.float64]:
    """Scores that put each list in the order a policy on single lists makes of it, as the gateway would: they mean nothing else.

    Args:
        policy: of scope `list`.
        scores: (N,) of all candidates.
        offsets: (L + 1,) list boundaries.
        codes: attribute of known groups -> (N,) codes into `GROUPS` of it, for the attributes the policy's rules name.
        k: places asked for; the candidates behind them follow by score.

    Returns:
        (N,) descending from 1 above the list's last.
    """
    out = np.empty(len(scores))
    for start, end in pairwise(offsets.tolist()):
        mine = scores[start:end]
        rules = list_groups(policy, {name: coded_attribute(name, c[start:end]) for name, c in codes.items()}, mine)
        fair = rerank(mine, rules, k, page=policy.page_length, free=policy.free_places)
        out[start + with_rest(fair, mine, len(mine)).order] = np.arange(end - start, 0, -1)
    return out


def spread(surface: Surface, probabilities: NDArray[np.float64], lists: EvalLists) -> float:
    """How far the scores of one list lie apart: the mean over lists of their standard deviation.

    Args:
        surface: ADS scores are bid × probability in micros, with the bids that sample requests make; SEARCH scores are probabilities.
        probabilities: (N,) blended.
        lists: what they are of.
    """
    scores = probabilities
    if surface is Surface.ADS:
        scores = expected_value(np.array(bids(lists.features[:, _PRICE])), probabilities)
    return float(np.mean([scores[a:b].std() for a, b in pairwise(lists.offsets) if b > a]))


def _floors(floor: float) -> GroupRule:
    return GroupRule("popularity_tier", {"tail": Share(floor), "new": Share(floor / 2)})


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
