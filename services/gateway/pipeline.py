"""One list from request to ranking: features, members, blend, score, fairness, price.

Degrades instead of failing. Where no member could score an item its probability is 0.0 on the wire (NaN has no place there) and a
degradation says so; where none could score any, the list stands in retrieval order, else as it came, and `scores` holds what it was
sorted by. An ad without a probability is charged its bid: no second price can be computed for it, a price of 0 would give clicks away,
and the bid is the most the advertiser agreed to. Knows no protobuf, no Feast and no Triton.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import assemble
from ranking.auction import expected_value, gsp_prices
from ranking.blend import Blended, BlendSpec, blend
from ranking.errors import UnknownName
from ranking.explain import explain
from ranking.exposure import exposure_report
from ranking.features import REQUEST_COLUMNS
from ranking.floors import FairRanking, rank_by_score, rank_with_floors
from ranking.policy import FairnessPolicy
from ranking.text import query_text
from ranking.types import (
    TIERS,
    Degradation,
    Dropped,
    Explain,
    Explanation,
    Float32Array,
    FloatArray,
    GroupExposure,
    IntArray,
    Ranking,
    RankRequest,
    Surface,
)
from services.gateway.features import Features, ListFeatures
from services.gateway.releases import LoadedRelease, Releases
from services.gateway.scoring import Scores, Scoring
from services.gateway.served import Served

_DECLARED_COLUMNS = frozenset(f.name for f in REQUEST_COLUMNS)
_FEATURES_SHARE = 0.5  # of the budget: a hanging feature store leaves the models time to answer on defaults


@dataclass(frozen=True, slots=True)
class Plan:
    """What a valid request will be answered with."""

    loaded: LoadedRelease
    spec: BlendSpec
    policy: FairnessPolicy


@dataclass(frozen=True, slots=True)
class _Ordered:
    """The competing candidates and their order; index arrays count within `kept`."""

    kept: IntArray  # (m,) candidates that compete
    key: FloatArray  # (m,) what they are sorted by
    groups: NDArray[np.int8]  # (m,)
    fair: FairRanking  # as returned
    exposure: tuple[GroupExposure, ...]


class Pipeline:
    """Ranks lists; any number at once on one event loop."""

    def __init__(self, releases: Releases, features: Features, scoring: Scoring, keep: Callable[[Served], None] | None = None) -> None:
        """Wire the parts.

        Args:
            releases: what to rank with.
            features: of users and items.
            scoring: the members.
            keep: handed every answer and what it was made of; must neither raise nor wait.
        """
        self._keep = keep
        self._releases = releases
        self._features = features
        self._scoring = scoring

    def plan(self, request: RankRequest) -> Plan:
        """Which release, blend and policy answer.

        Raises:
            NotReady: no release is active.
            UnknownName: the release, or its policy or surface, is not known.
        """
        loaded = self._releases.get(request.release)
        release = loaded.release
        if request.surface not in release.blends:
            raise UnknownName("surface", request.surface.value, [s.value for s in release.blends])
        name = request.policy or release.active_policy[request.surface]
        if name not in release.policies:
            raise UnknownName("policy", name, list(release.policies))
        return Plan(loaded, release.blends[request.surface], release.policies[name])

    async def rank(self, request: RankRequest, deadline: float, stage_ms: Mapping[str, float] | None = None) -> Ranking:
        """Rank one list.

        Args:
            request: validated.
            deadline: monotonic seconds; what is not there by then is left out and reported.
            stage_ms: time already spent, by stage; part of the answer.

        Raises:
            NotReady, UnknownName: as `plan`.
        """
        stages = _Stages(stage_ms or {})
        plan = self.plan(request)
        release = plan.loaded.release
        candidates = request.candidates
        now = time.monotonic()
        found = await self._features.get(request.user_id, candidates.item_ids, now + _FEATURES_SHARE * max(deadline - now, 0.0))
        stages.end("features")
        matrix = assemble(
            found.user,
            found.items,
            query_tokens=plan.loaded.tokens(query_text(request.query, "")),
            columns=candidates.columns,
        )
        stages.end("assemble")
        text = query_text(request.query, found.user.interest_text)
        scored = await self._scoring.score(
            plan.loaded,
            plan.spec,
            matrix=matrix,
            items=found.items,
            text=text,
            deadline=deadline,
            every=request.explain is not Explain.NONE,
        )
        stages.end("score")
        blended = blend(plan.spec, scored.logits, found.items.tiers)
        probabilities, key, unscored = _score(request, blended.probabilities)
        stages.end("blend")
        ordered, dropped = _order(request, plan.policy, key, found.items.tiers)
        order = ordered.kept[ordered.fair.order]
        prices = _prices(request, plan.policy, ordered, probabilities, np.isnan(blended.probabilities))
        stages.end("fairness")
        explanations = _explain(
            request, plan.spec, ordered, scored=scored, blended=blended, probabilities=probabilities, matrix=matrix, found=found
        )
        if explanations:
            stages.end("explain")
        ranking = Ranking(
            ranking_id=uuid.uuid4().hex,
            request_id=request.request_id,
            order=order,
            item_ids=tuple(candidates.item_ids[i] for i in order.tolist()),
            scores=key[order],
            probabilities=probabilities[order],
            price_micros=prices,
            explanations=explanations,
            dropped=dropped,
            degradations=(*_ignored(request), *found.degradations, *scored.degradations, *unscored),
            release=release.id,
            model_versions={m: str(release.member(m).version) for m in plan.spec.members},
            policy=plan.policy.name,
            policy_version=plan.policy.version,
            feature_schema_hash=release.feature_schema_hash,
            freshness=found.counts(),
            exposure=ordered.exposure,
            stage_ms=stages.total({f"score.{name}": ms for name, ms in scored.member_ms.items()}),
        )
        if self._keep is not None:
            self._keep(Served(time.time(), request, ranking, plan.spec.members, scored.logits, matrix, ordered.kept, ordered.key))
        return ranking


class _Stages:
    """Wall time per stage, in milliseconds."""

    def __init__(self, spent: Mapping[str, float]) -> None:
        self._ms = dict(spent)
        self._before = sum(spent.values())
        self._began = self._last = time.perf_counter()

    def end(self, stage: str) -> None:
        now = time.perf_counter()
        self._ms[stage] = (now - self._last) * 1e3
        self._last = now

    def total(self, parts: Mapping[str, float]) -> dict[str, float]:
        """All stages, `parts` of them in more detail, and their `total`."""
        return {**self._ms, **parts, "total": self._before + (time.perf_counter() - self._began) * 1e3}


def _score(request: RankRequest, blended: FloatArray) -> tuple[FloatArray, FloatArray, tuple[Degradation, ...]]:
    """(n,) probabilities without NaN, (n,) sort key, and what had to be made up."""
    absent = np.isnan(blended)
    if not absent.any():
        key = blended if request.candidates.bid_micros is None else expected_value(request.candidates.bid_micros, blended)
        return blended, key, ()
    probabilities = np.where(absent, 0.0, blended)
    if not absent.all():
        key = probabilities if request.candidates.bid_micros is None else expected_value(request.candidates.bid_micros, probabilities)
        detail = f"{int(absent.sum())} of {len(absent)} candidates have no score; their probability is given as 0{_at_bid(request)}"
        return probabilities, key, (Degradation("blend", "PARTIAL", detail),)
    retrieval = request.candidates.retrieval_scores
    by = "candidate order" if retrieval is None else "retrieval_scores"
    held = "0" if retrieval is None else "them"
    detail = f"no member could score; sorted by {by}, `scores` holds {held}, probabilities are given as 0{_at_bid(request)}"
    return probabilities, np.zeros(len(absent)) if retrieval is None else retrieval, (Degradation("blend", "UNAVAILABLE", detail),)


def _at_bid(request: RankRequest) -> str:
    return "; without one an ad's price is its bid" if request.surface is Surface.ADS else ""


def _order(request: RankRequest, policy: FairnessPolicy, key: FloatArray, tiers: NDArray[np.int8]) -> tuple[_Ordered, tuple[Dropped, ...]]:
    """Drop bids below the reserve, then rank with the policy's floors."""
    kept = np.arange(len(key))
    dropped: tuple[Dropped, ...] = ()
    bids = request.candidates.bid_micros
    if bids is not None and policy.reserve_micros > 0:
        low = bids < policy.reserve_micros
        dropped = tuple(Dropped(i, "BELOW_RESERVE") for i in np.flatnonzero(low).tolist())
        kept = np.flatnonzero(~low)
    key, groups = key[kept], tiers[kept]
    k = min(request.top_k, len(kept))
    none = np.zeros(len(TIERS), np.int64)
    by_score = FairRanking(rank_by_score(key, k), np.full(k, -1), none)
    if policy.mode == "off" or k == 0:
        return _Ordered(kept, key, groups, by_score, ()), dropped
    shares = policy.share_vector()
    fair = rank_with_floors(key, groups, shares, k)
    # With `report_only` the report says what the floors would have done to a list that is returned without them.
    exposure = exposure_report(by_score.order, fair.order, groups, TIERS, shares, fair.shortfall)
    return _Ordered(kept, key, groups, fair if policy.mode == "enforce" else by_score, exposure), dropped


def _prices(
    request: RankRequest, policy: FairnessPolicy, ordered: _Ordered, probabilities: FloatArray, absent: NDArray[np.bool_]
) -> IntArray | None:
    """(k,) second prices; the bid where a result has no probability."""
    bids = request.candidates.bid_micros
    if request.surface is not Surface.ADS or bids is None:
        return None
    kept = ordered.kept
    prices = gsp_prices(
        ordered.fair.order,
        bids[kept],
        probabilities[kept],
        reserve_micros=policy.reserve_micros,
        lifted=ordered.fair.binding,
        groups=ordered.groups,
    )
    order = kept[ordered.fair.order]
    return np.where(absent[order], bids[order], prices)


def _ignored(request: RankRequest) -> list[Degradation]:
    return [
        Degradation(f"column:{name}", "IGNORED", "the feature schema declares no such request column")
        for name in request.candidates.columns
        if name not in _DECLARED_COLUMNS
    ]


def _explain(
    request: RankRequest,
    spec: BlendSpec,
    ordered: _Ordered,
    *,
    scored: Scores,
    blended: Blended,
    probabilities: FloatArray,
    matrix: Float32Array,
    found: ListFeatures,
) -> tuple[Explanation, ...]:
    if request.explain is Explain.NONE:
        return ()
    kept = ordered.kept
    return explain(
        request.explain,
        ordered.fair,
        item_ids=[request.candidates.item_ids[i] for i in kept.tolist()],
        members=spec.members,
        logits=scored.logits[:, kept],
        blended=Blended(probabilities[kept], blended.member_probabilities[:, kept], blended.weights[:, kept]),
        scores=ordered.key,
        before=rank_by_score(ordered.key),
        groups=ordered.groups,
        names=TIERS,
        rows=matrix[kept],
        freshness=found.states(kept) if request.explain is Explain.FULL else None,
    )
