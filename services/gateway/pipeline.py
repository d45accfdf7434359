"""One list from request to ranking: features, members, blend, objectives, auction, fairness, prices.

Degrades instead of failing. Where no member could score an item its probability is 0.0 on the wire (NaN has no place there) and a
degradation says so; where none could score any, the list stands in retrieval order, else as it came, and `scores` holds what it was
sorted by. An ad without a probability is charged its bid: no second price can be computed for it, a price of 0 would give clicks away,
and the bid is the most the advertiser agreed to. Knows no protobuf, no Feast, no Triton and no store of accounts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ranking.assemble import assemble
from ranking.blend import Blended
from ranking.explain import Attributed, explain
from ranking.fairness.floors import rank_by_score
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import FairnessPolicy
from ranking.features import REQUEST_COLUMNS
from ranking.text import query_text
from ranking.types import (
    Degradation,
    Explain,
    Explanation,
    Fairness,
    Float32Array,
    FloatArray,
    IntArray,
    Ranking,
    RankRequest,
)
from services.gateway.attributions import Attributions
from services.gateway.features import Features, ListFeatures
from services.gateway.ledger.ledger import Ledger
from services.gateway.plan import Plan, plan, planned
from services.gateway.policy import objectives
from services.gateway.policy.arrange import Arranged, arrange, record, slow
from services.gateway.policy.fairness import Fair, keeps_accounts
from services.gateway.policy.timely import timely
from services.gateway.releases import LoadedRelease, Releases
from services.gateway.scoring import Scores, Scoring
from services.gateway.served import Served
from services.rpc import calls, tracing
from services.rpc.ids import new_id

_DECLARED_COLUMNS = frozenset(f.name for f in REQUEST_COLUMNS)
_FEATURES_SHARE = 0.5  # of the budget: a hanging feature store leaves the models time to answer on defaults
_SCORE_SHARE = 0.8  # of what is left then, where an order or explanations follow that take their time


class Pipeline:
    """Ranks lists; any number at once on one event loop."""

    def __init__(
        self,
        releases: Releases,
        features: Features,
        scoring: Scoring,
        ledger: Ledger,
        attributions: Attributions,
        *,
        rehearsal: Scoring | None = None,
        keep: Callable[[Served], None] | None = None,
        observe: Callable[[RankRequest, Ranking, FairnessPolicy, Sequence[ListGroups]], None] | None = None,
        measure: Callable[[RankRequest, Ranking, Scores], None] | None = None,
        answered: Callable[[RankRequest, Plan, Ranking, ListFeatures], None] | None = None,
    ) -> None:
        """Wire the parts.

        Args:
            releases: what to rank with.
            features: of users and items.
            scoring: the members.
            ledger: what groups are owed and advertisers spent.
            attributions: of scores to features, for full explanations.
            rehearsal: the members where nobody waits for them; its work must not stand in the way of `scoring`'s. None: `scoring`.
            keep: handed every answer and what it was made of; must neither raise nor wait.
            observe: handed every answer, its policy and the groups of its results, for the metrics; must neither raise nor wait.
            measure: handed every answer and what the members said, for the metrics; must neither raise nor wait.
            answered: handed every answer, its plan and its features, for trials; must neither raise nor wait.
        """
        self._releases = releases
        self._features = features
        self._scoring = scoring
        self._ledger = ledger
        self._attributions = attributions
        self._rehearsal = rehearsal or scoring
        self._keep = keep
        self._observe = observe
        self._measure = measure
        self._answered = answered

    def plan(self, request: RankRequest) -> Plan:
        """As `plan.plan`."""
        return plan(self._releases, request)

    async def rank(self, request: RankRequest, deadline: float, stage_ms: Mapping[str, float] | None = None) -> Ranking:
        """Rank one list.

        Args:
            request: validated.
            deadline: monotonic seconds; what is not there by then is left out and reported.
            stage_ms: time already spent, by stage; part of the answer.

        Raises:
            NotReady, UnknownName, InvalidField: as `plan.plan`.
        """
        stages = _Stages(stage_ms or {})
        plan = self.plan(request)
        now = time.monotonic()
        until = now + _FEATURES_SHARE * max(deadline - now, 0.0)
        with tracing.span("features"):
            found = await self._features.get(request.user_id, request.candidates.item_ids, until)
        stages.end("features")
        read_at = time.time()
        made = await self._make(request, plan, found, self._scoring, deadline, stages)
        ranking, ordered = made.ranking, made.ordered
        record(request.surface, ordered, ranking, self._ledger)
        if self._keep is not None:
            scored, kept = made.scored, ordered.auction.kept
            asked = calls.request_id() or request.request_id
            self._keep(Served(read_at, found.as_of, asked, request, ranking, scored.members, scored.logits, made.matrix, kept, ordered.key))
        if self._observe is not None:
            fair = ordered.fair
            self._observe(request, ranking, plan.policy, [rule.take(fair.ranking.order) for rule in fair.groups])
        if self._measure is not None:
            self._measure(request, ranking, made.scored)
        if self._answered is not None:
            self._answered(request, plan, ranking, found)
        return ranking

    async def rehearse(self, request: RankRequest, loaded: LoadedRelease, found: ListFeatures, deadline: float) -> Ranking:
        """Rank one list as `rank` would with a given release, and leave no trace: no account, log or metric knows of it.

        Args:
            request: validated; is not explained.
            loaded: to rank with.
            found: the list's features.
            deadline: monotonic seconds.

        Raises:
            UnknownName, InvalidField: the release does not know the request's policy or surface.
        """
        asked = replace(request, explain=Explain.NONE)
        return (await self._make(asked, planned(asked, loaded), found, self._rehearsal, deadline, _Stages({}))).ranking

    async def _make(
        self, request: RankRequest, plan: Plan, found: ListFeatures, scoring: Scoring, deadline: float, stages: _Stages
    ) -> _Made:
        """From features to the answer. Reads the ledger and changes nothing."""
        release, policy = plan.loaded.release, plan.policy
        candidates = request.candidates
        matrix = assemble(
            found.user,
            found.items,
            query_tokens=plan.loaded.tokens(query_text(request.query, "")),
            columns=candidates.columns,
        )
        stages.end("assemble")
        apart, now = slow(request, policy), time.monotonic()
        more = apart or request.explain is Explain.FULL
        with tracing.span("score"):
            scored = await scoring.score(
                plan.loaded,
                plan.spec,
                matrix=matrix,
                items=found.items,
                text=query_text(request.query, found.user.interest_text),
                deadline=now + _SCORE_SHARE * max(deadline - now, 0.0) if more else deadline,
                every=request.explain is not Explain.NONE,
                objectives=tuple(plan.objectives.values()),
                cascade=policy.cascade,
                retrieval=candidates.retrieval_scores,
            )
        stages.end("score")
        tiers = found.items.tiers
        blended = scored.blend(plan.spec, tiers)
        worth = objectives.worth(policy, blended.probabilities, plan.objectives, scored, tiers, candidates.columns)
        probabilities = np.where(np.isnan(blended.probabilities), 0.0, blended.probabilities)
        stages.end("blend")
        ordered, unordered = await timely(
            lambda followed: arrange(request, followed, worth.score, probabilities, found, self._ledger),
            policy,
            apart=apart,
            deadline=deadline,
        )
        kept, fair = ordered.auction.kept, ordered.fair
        order = kept[fair.ranking.order]
        stages.end("fairness")
        explanations, unexplained = await self._explain(
            request, plan, ordered, scored=scored, blended=blended, outcomes=worth.objectives, matrix=matrix, found=found, deadline=deadline
        )
        if explanations:
            stages.end("explain")
        degradations = (
            *_ignored(request, policy),
            *found.degradations,
            *scored.degradations,
            *_made_up(request, blended.probabilities, worth.score),
            *worth.degradations,
            *unordered,
            *unexplained,
        )
        accounted = ordered.paced is not None or keeps_accounts(policy)
        trouble = self._ledger.degradation if accounted else None
        ranking = Ranking(
            ranking_id=new_id(),
            request_id=request.request_id,
            order=order,
            item_ids=tuple(map(candidates.item_ids.__getitem__, order.tolist())),
            scores=ordered.key[fair.ranking.order],
            probabilities=probabilities[order],
            price_micros=ordered.prices,
            explanations=explanations,
            dropped=ordered.auction.dropped,
            degradations=degradations if trouble is None else (*degradations, trouble),
            release=release.id,
            model_versions={m: str(release.member(m).version) for m in scored.members},
            policy=policy.name,
            policy_version=policy.version,
            policy_mode=policy.mode,
            feature_schema_hash=release.feature_schema_hash,
            freshness=found.counts(),
            exposure=fair.exposure,
            fairness=_in_request(fair, kept),
            stage_ms=stages.total({f"score.{name}": ms for name, ms in scored.member_ms.items()}),
        )
        return _Made(ranking, ordered, scored, matrix)

    async def _explain(
        self,
        request: RankRequest,
        plan: Plan,
        ordered: Arranged,
        *,
        scored: Scores,
        blended: Blended,
        outcomes: Mapping[str, FloatArray],
        matrix: Float32Array,
        found: ListFeatures,
        deadline: float,
    ) -> tuple[tuple[Explanation, ...], tuple[Degradation, ...]]:
        """One explanation per result, if asked for."""
        if request.explain is Explain.NONE:
            return (), ()
        kept, fair = ordered.auction.kept, ordered.fair
        full = request.explain is Explain.FULL
        logits = scored.of(plan.spec)
        attributed: Attributed | None = None
        degraded: tuple[Degradation, ...] = ()
        order = kept[fair.ranking.order]
        if full and len(order):
            attributed, degraded = await self._attributions.of(
                plan.loaded.release, plan.spec.members, matrix[order], logits[:, order], deadline
            )
        explanations = explain(
            request.explain,
            fair.ranking,
            item_ids=[request.candidates.item_ids[i] for i in kept.tolist()],
            members=plan.spec.members,
            logits=logits[:, kept],
            blended=Blended(np.nan_to_num(blended.probabilities[kept]), blended.member_probabilities[:, kept], blended.weights[:, kept]),
            scores=ordered.key,
            before=rank_by_score(ordered.key),
            rules=fair.groups,
            prices=fair.lifts,
            costs=fair.fairness.costs if fair.fairness is not None and plan.policy.mode == "enforce" else (),
            objectives={name: p[kept] for name, p in outcomes.items()},
            rows=matrix[kept],
            freshness=found.states(kept) if full else None,
            attributions=attributed,
        )
        return explanations, degraded


@dataclass(frozen=True, slots=True)
class _Made:
    """An answer, and what it was made of."""

    ranking: Ranking
    ordered: Arranged
    scored: Scores
    matrix: Float32Array


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


def _made_up(request: RankRequest, click: FloatArray, worth: FloatArray) -> tuple[Degradation, ...]:
    """What is said of (n,) probabilities that are not there."""
    absent = np.isnan(click)
    if not absent.any():
        return ()
    at_bid = "; without one an ad's price is its bid" if request.candidates.bid_micros is not None and np.isnan(worth).any() else ""
    if not absent.all():
        detail = f"{int(absent.sum())} of {len(absent)} candidates have no score; their probability is given as 0{at_bid}"
        return (Degradation("blend", "PARTIAL", detail),)
    if not np.isnan(worth).all():
        detail = f"no member could score; sorted by the policy's other objectives, probabilities are given as 0{at_bid}"
    else:
        by, held = ("candidate order", "0") if request.candidates.retrieval_scores is None else ("retrieval_scores", "them")
        detail = f"no member could score; sorted by {by}, `scores` holds {held}, probabilities are given as 0{at_bid}"
    return (Degradation("blend", "UNAVAILABLE", detail),)


def _ignored(request: RankRequest, policy: FairnessPolicy) -> list[Degradation]:
    wanted = objectives.weighed(policy)
    of_objective = {column: name for name, column in objectives.COLUMNS.items()}
    out = []
    for name in request.candidates.columns:
        if name not in _DECLARED_COLUMNS and of_objective.get(name) not in wanted:
            why = (
                f"policy {policy.name!r} gives it no weight"
                if name in of_objective
                else "the feature schema declares no such request column"
            )
            out.append(Degradation(f"column:{name}", "IGNORED", why))
    return out


def _in_request(fair: Fair, kept: IntArray) -> Fairness | None:
    """The policy's effect, with candidates counted as in the request."""
    if fair.fairness is None or not fair.fairness.costs:
        return fair.fairness
    return replace(fair.fairness, costs=tuple(replace(c, index=int(kept[c.index])) if c.index >= 0 else c for c in fair.fairness.costs))
