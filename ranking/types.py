"""The nouns of ranking and their shapes. Read this first.

Everything is columnar: a list of ``n`` candidates is a handful of arrays of length ``n``, never ``n`` objects.
This module knows nothing of protobuf, Feast, Triton or any file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Surface(StrEnum):
    """Where a list is shown."""

    SEARCH = "search"
    ADS = "ads"


class Explain(StrEnum):
    """How much each result should say about itself."""

    NONE = "none"
    SCORES = "scores"
    FULL = "full"


class Tier(StrEnum):
    """Popularity tier of an item, from the purchases known before the request (see `ranking.aggregates.tiers`)."""

    HEAD = "head"
    TAIL = "tail"
    NEW = "new"


TIERS: tuple[str, ...] = (Tier.HEAD, Tier.TAIL, Tier.NEW)
"""Group names in the order of their integer codes."""


class Freshness(StrEnum):
    """What a served feature value is worth."""

    FRESH = "fresh"
    STALE = "stale"  # present, but older than its view's ttl
    MISSING = "missing"  # the entity is unknown to the store: every value is its default
    DEFAULTED = "defaulted"  # the entity is known, this value is not


@dataclass(frozen=True, slots=True)
class Candidates:
    """``n`` items to rank, in the caller's (retrieval) order."""

    item_ids: Sequence[str]  # (n,) unique
    retrieval_scores: FloatArray | None = None  # (n,)
    bid_micros: IntArray | None = None  # (n,) currency micros per click; on search a candidate with a bid above 0 is an ad
    columns: Mapping[str, Float32Array] = field(default_factory=dict)  # name -> (n,) request-time features

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, slots=True)
class RankRequest:
    """One validated question. Defaults are already filled in."""

    request_id: str
    surface: Surface
    query: str
    user_id: str
    candidates: Candidates
    top_k: int
    session_id: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""  # empty: the surface's active policy
    release: str = ""  # empty: the active release
    explain: Explain = Explain.NONE
    validate_only: bool = False


@dataclass(frozen=True, slots=True)
class GroupExposure:
    """What one group got on one list, with and without the fairness policy."""

    attribute: str  # whose group it is, e.g. "popularity_tier"
    group: str
    candidates: int  # how many candidates belong to the group
    target_share: float  # the policy's floor share on this list; 0 where the policy names none
    ceiling: float  # the policy's largest share; 1 where it names none
    count: int  # how many of the returned results
    exposure: float  # its share of Σ 1/log2(rank + 1) over the returned results
    count_before: int  # the same two, ranked by score alone
    exposure_before: float
    shortfall: int  # places the floor asked for and the candidates could not fill
    excess: int  # places above the ceiling, because no other candidates were left
    price: float = 0.0  # added to the group's scores for exposure owed by earlier lists, in units of the score
    debt: float = 0.0  # exposure owed to the group before this list, in lists; 0 where the policy keeps no shares over many lists


@dataclass(frozen=True, slots=True)
class ConstraintCost:
    """What one promise of the policy cost on one list, given those before it; the costs add up to `Fairness.utility_before - utility`."""

    kind: str  # "price", "floor", "ceiling" or "overlap"
    attribute: str
    group: str  # empty where the cost is not one group's
    prefix: int  # the floor had to hold within so many places; 0 where it is not about a prefix
    index: int  # the candidate the floor placed, -1 where it is not one
    cost: float  # discounted utility: score / log2(rank + 1), in units of the score


@dataclass(frozen=True, slots=True)
class Fairness:
    """What the policy does to one list's utility, Σ score / log2(rank + 1) over the page; for `report_only` what enforcing would do."""

    utility_before: float  # ranked by score alone
    utility: float  # as the policy orders the list, in the same scores
    optimality_gap: float  # at most this share of the best possible utility was missed; 0: proven optimal
    costs: tuple[ConstraintCost, ...] = ()  # FULL only


@dataclass(frozen=True, slots=True)
class MemberScore:
    """One member's opinion of one result."""

    member: str
    raw: float  # the model's output (a log-odds), NaN where it could not score
    probability: float  # after its calibrator
    weight: float  # its share in the blend for this item's group


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one result stands where it stands."""

    item_id: str
    group: str
    members: tuple[MemberScore, ...]
    probability: float  # blended, recalibrated
    score: float  # what the list is sorted by before floors
    rank_before: int  # 1-based, ranked by score alone
    rank: int  # 1-based, as returned
    binding_floor: str  # group whose floor lifted this result, or empty
    binding_attribute: str = ""  # the attribute of that group
    binding_prefix: int = 0  # within how many places that floor wanted it
    price: float = 0.0  # added to the score for exposure owed to its groups
    cost: float = 0.0  # FULL only: utility that the floor which placed it cost the list
    objectives: Mapping[str, float] = field(default_factory=dict)  # outcome -> probability, where the policy weighs several
    features: Mapping[str, float] = field(default_factory=dict)  # FULL only: the model's input row
    freshness: Mapping[str, str] = field(default_factory=dict)  # FULL only: view -> Freshness
    attributed_member: str = ""  # FULL only: the member `attributions` are of
    attributions: Mapping[str, float] = field(default_factory=dict)  # feature -> its part of that member's log-odds (tree SHAP)
    attribution_base: float = 0.0  # the member's mean log-odds; base + Σ attributions = its raw score


@dataclass(frozen=True, slots=True)
class Dropped:
    """A candidate that is not in the results for a reason other than its rank."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Degradation:
    """Something was missing and the answer went on without it."""

    component: str  # e.g. "member:bert", "features:user"
    reason: str  # e.g. "UNAVAILABLE", "DEADLINE", "NOT_FOUND"
    detail: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """One answer: the ``k`` results columnar, best first, and what stands behind them."""

    ranking_id: str
    request_id: str
    order: IntArray  # (k,) indices into the candidates
    item_ids: tuple[str, ...]  # (k,)
    scores: FloatArray  # (k,) sorted by before prices and floors (search: weighted probability; with bids: micros per impression)
    probabilities: FloatArray  # (k,) calibrated; untouched by re-ranking
    price_micros: IntArray | None  # (k,) per click, 0 where a result has no bid; None where nothing is for sale
    explanations: tuple[Explanation, ...]
    dropped: tuple[Dropped, ...]
    degradations: tuple[Degradation, ...]
    release: str
    model_versions: Mapping[str, str]  # member -> Triton version
    policy: str
    policy_version: str
    policy_mode: str  # enforce, report_only or off
    feature_schema_hash: str
    freshness: Mapping[str, int]  # Freshness value -> number of (entity, view) reads
    exposure: tuple[GroupExposure, ...]
    fairness: Fairness | None  # None with a policy that is off
    stage_ms: Mapping[str, float]
