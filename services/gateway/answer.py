"""From a `Ranking` to the message on the wire. The other direction is `convert`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.types import Explanation, Fairness, Freshness, Ranking, RankRequest
from services.rpc import errors


def to_response(ranking: Ranking, candidates: Sequence[str]) -> pb.RankResponse:
    """The answer's message; `candidates` are the request's item ids."""
    response = pb.RankResponse(
        ranking_id=ranking.ranking_id,
        request_id=ranking.request_id,
        results=pb.Results(
            item_ids=ranking.item_ids,
            candidate_indices=ranking.order.tolist(),
            scores=ranking.scores.tolist(),
            probabilities=ranking.probabilities.tolist(),
            price_micros=None if ranking.price_micros is None else ranking.price_micros.tolist(),
        ),
        dropped=[pb.Dropped(index=d.index, reason=d.reason) for d in ranking.dropped],
        degradations=[pb.Degradation(component=d.component, reason=d.reason, detail=d.detail) for d in ranking.degradations],
        release=ranking.release,
        model_versions=ranking.model_versions,
        policy=ranking.policy,
        policy_version=ranking.policy_version,
        policy_mode=ranking.policy_mode,
        feature_schema_hash=ranking.feature_schema_hash,
        feature_freshness=pb.FeatureFreshness(**{state.value: ranking.freshness.get(state, 0) for state in Freshness}),
        exposure=[
            pb.GroupExposure(
                attribute=g.attribute,
                group=g.group,
                candidates=g.candidates,
                target_share=g.target_share,
                ceiling=g.ceiling,
                count=g.count,
                exposure=g.exposure,
                count_before=g.count_before,
                exposure_before=g.exposure_before,
                shortfall=g.shortfall,
                excess=g.excess,
                price=g.price,
                debt=g.debt,
            )
            for g in ranking.exposure
        ],
        explanations=[_explanation(e) for e in ranking.explanations],
        fairness=None if ranking.fairness is None else _fairness(ranking.fairness, candidates),
    )
    for stage, ms in ranking.stage_ms.items():
        spent = response.stage_durations[stage]
        spent.seconds, spent.nanos = divmod(round(ms * 1e6), 1_000_000_000)
    return response


def checked(request: RankRequest, release: str) -> pb.RankResponse:
    """The answer to a valid request with `validate_only`: no results."""
    return pb.RankResponse(request_id=request.request_id, release=release)


def to_error(error: BaseException) -> pb.RankError:
    """One failed list of a batch: the same code and message a single Rank would end with."""
    status = errors.to_status(error)
    return pb.RankError(
        code=status.code,
        message=status.message,
        field_violations=[pb.FieldViolation(field=v.field, description=v.reason) for v in errors.violations(error)],
    )


def _fairness(f: Fairness, candidates: Sequence[str]) -> pb.Fairness:
    return pb.Fairness(
        utility_before=f.utility_before,
        utility=f.utility,
        optimality_gap=f.optimality_gap,
        costs=[
            pb.ConstraintCost(
                kind=c.kind,
                attribute=c.attribute,
                group=c.group,
                prefix=c.prefix,
                item_id=candidates[c.index] if c.index >= 0 else "",
                cost=c.cost,
            )
            for c in f.costs
        ],
    )


def _explanation(e: Explanation) -> pb.Explanation:
    return pb.Explanation(
        item_id=e.item_id,
        group=e.group,
        members=[
            pb.MemberScore(
                member=m.member,
                raw=None if math.isnan(m.raw) else m.raw,
                probability=None if math.isnan(m.probability) else m.probability,
                weight=m.weight,
            )
            for m in e.members
        ],
        probability=e.probability,
        score=e.score,
        rank_before=e.rank_before,
        rank=e.rank,
        binding_floor=e.binding_floor,
        binding_attribute=e.binding_attribute,
        binding_prefix=e.binding_prefix,
        price=e.price,
        cost=e.cost,
        objectives=e.objectives,
        features=e.features,
        freshness=e.freshness,
        attributed_member=e.attributed_member,
        attributions=e.attributions,
        attribution_base=e.attribution_base,
    )
