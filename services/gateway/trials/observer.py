"""What becomes of an answer while a release is on trial: a canary's is written down, a shadow's is ranked once more and compared.

All of it after the answer is made, and none of it seen by the caller: a shadow reads the same features and the same accounts, and
records nothing in the ledger, the served log or the metrics of answers. So many at once, and no more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from ranking.difference import difference, tier_shares
from ranking.errors import LongtailError
from ranking.trial import Mode, key_of, unit_of
from ranking.types import Ranking, RankRequest
from services.gateway.features import ListFeatures
from services.gateway.plan import Plan
from services.gateway.releases import LoadedRelease, OnTrial
from services.gateway.trials.log import ACTIVE, TRIED, Answered, Shadowed, TrialLog
from services.gateway.trials.metrics import TrialMetrics

log = logging.getLogger(__name__)
Rehearse = Callable[[RankRequest, LoadedRelease, ListFeatures, float], Awaitable[Ranking]]
"""Ranks a request with a release on features at hand until a deadline (monotonic seconds), and leaves no trace."""


class Trials:
    """Sees every answer. Lives on the event loop."""

    def __init__(self, lines: TrialLog, metrics: TrialMetrics, rehearse: Rehearse, *, at_once: int, budget_s: float) -> None:
        """Wire the parts.

        Args:
            lines: where differences go.
            metrics: counts them.
            rehearse: ranks in the shadow.
            at_once: most shadows at a time; requests that find as many are not shadowed.
            budget_s: longest one may take.
        """
        self._lines = lines
        self._metrics = metrics
        self._rehearse = rehearse
        self._at_once = at_once
        self._budget_s = budget_s
        self._running: set[asyncio.Task[None]] = set()
        self._failure = ""

    def answered(self, request: RankRequest, plan: Plan, ranking: Ranking, found: ListFeatures) -> None:
        """Take notice of an answer: returns at once and never raises.

        Args:
            request: n candidates.
            plan: what it was answered with, and what was on trial then.
            ranking: the answer.
            found: the features it was made of.
        """
        tried = plan.on_trial
        if tried is None:
            return
        if tried.trial.mode is Mode.CANARY:
            line = _answered(request, plan, tried, ranking, found)
            self._metrics.answered(line)
            self._lines.offer(line)
        elif plan.meets:
            if len(self._running) >= self._at_once:
                self._metrics.dropped.inc()
                return
            task = asyncio.create_task(self._shadow(request, tried, ranking, found))
            self._running.add(task)  # held: the loop itself only knows its tasks weakly
            task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Cancel what is under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _shadow(self, request: RankRequest, tried: OnTrial, ranking: Ranking, found: ListFeatures) -> None:
        try:
            shadow = await self._rehearse(request, tried.loaded, found, time.monotonic() + self._budget_s)
        except Exception as error:  # the boundary of the task: whatever a release on trial does wrong is no trouble of the active one
            self._metrics.failed.inc()
            failure = f"{tried.trial.release}: {error!r}"
            if failure != self._failure:  # once, however many requests meet it
                log.warning("shadow_failed", extra={"detail": failure}, exc_info=not isinstance(error, LongtailError))
            self._failure = failure
            return
        line = _shadowed(request, tried, ranking, shadow, found)
        self._metrics.shadowed(line)
        self._lines.offer(line)


def _answered(request: RankRequest, plan: Plan, tried: OnTrial, ranking: Ranking, found: ListFeatures) -> Answered:
    return Answered(
        time=time.time(),
        tried=tried.trial.release,
        active=tried.beside,
        share=tried.trial.share,
        unit=unit_of(tried.trial, key_of(request)),
        surface=request.surface.value,
        policy=ranking.policy,
        arm=TRIED if plan.meets else ACTIVE,
        release=ranking.release,
        ranking_id=ranking.ranking_id,
        tiers=tier_shares(found.items.tiers, ranking.order),
        ms=ranking.stage_ms["total"],
        degraded=_degraded(ranking),
    )


def _shadowed(request: RankRequest, tried: OnTrial, ranking: Ranking, shadow: Ranking, found: ListFeatures) -> Shadowed:
    differs = difference(ranking.order, ranking.probabilities, shadow.order, shadow.probabilities)
    spent = ranking.stage_ms
    return Shadowed(
        time=time.time(),
        tried=shadow.release,
        active=ranking.release,
        share=tried.trial.share,
        unit=unit_of(tried.trial, key_of(request)),
        surface=request.surface.value,
        policy=ranking.policy,
        overlap=differs.overlap,
        correlation=differs.correlation,
        probability=differs.probability,
        shift=differs.shift,
        tiers_active=tier_shares(found.items.tiers, ranking.order),
        tiers_tried=tier_shares(found.items.tiers, shadow.order),
        ms_active=spent["total"] - sum(spent.get(stage, 0.0) for stage in ("convert", "features", "explain")),
        ms_tried=shadow.stage_ms["total"],
        degraded_active=_degraded(ranking),
        degraded_tried=_degraded(shadow),
    )


def _degraded(ranking: Ranking) -> bool:
    """Whether it went without something; an ignored column of the caller's is the same for both arms."""
    return any(d.reason != "IGNORED" for d in ranking.degradations)
