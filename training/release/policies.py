"""The fairness policies a release is born with; `longtail policy apply` changes them later.

A price for exposure owed is added to a score, so its size depends on how far the scores of one list lie apart. That is measured on
validation lists, per surface.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ranking.auction.second_price import expected_value
from ranking.fairness.policy import Controller, FairnessPolicy, GroupRule, Share
from ranking.features import MODEL_COLUMNS
from ranking.types import Surface
from training.blends.ensemble import EvalLists
from training.lists.requests import bids

RESERVE_MICROS = 5_000  # half a cent per click: without a reserve the last ad of a list is free
FLOORS = (GroupRule("popularity_tier", {"tail": Share(0.2), "new": Share(0.1)}),)
SHARES = (GroupRule("popularity_tier", {"tail": Share(0.5, "of_candidates"), "new": Share(0.5, "of_candidates")}),)
ACTIVE_POLICY = "tail-floor"
GAIN = 0.2  # of the standard deviation of a list's scores, per list of exposure owed
_PRICE = MODEL_COLUMNS.index("price_28d")


def shipped(spreads: Mapping[Surface, float]) -> tuple[FairnessPolicy, ...]:
    """The policies of a new release.

    `tail-floor` (the default) and `tail-report` promise places on every list, `tail-share-…` exposure over all lists of a surface;
    `none` ranks by score.

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
        FairnessPolicy("tail-floor", "1", FLOORS, reserve_micros=RESERVE_MICROS),
        FairnessPolicy("tail-report", "1", FLOORS, mode="report_only", reserve_micros=RESERVE_MICROS),
        *amortised,
        FairnessPolicy("none", "1", mode="off", reserve_micros=RESERVE_MICROS),
    )


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


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
