"""`RankingService` on the wire: unwrap, call, wrap. Errors leave as exceptions; the interceptor gives them their status."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, TypeAlias

import grpc
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2_grpc as pb_grpc

from ranking.errors import LongtailError
from services.gateway import answer, convert
from services.gateway.pipeline import Pipeline
from services.rpc import calls

log = logging.getLogger(__name__)
NAME = pb.DESCRIPTOR.services_by_name["RankingService"].full_name
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only


_MARGIN_SHARE = 0.15  # of a client's deadline, kept free for blending, ordering, encoding and sending


class RankingServicer(pb_grpc.RankingServiceServicer):
    """Serves a pipeline."""

    def __init__(self, pipeline: Pipeline, *, budget_s: float, margin_s: float) -> None:
        """Bound the time of a call.

        Args:
            pipeline: does the ranking.
            budget_s: most seconds a call may take before it answers with what it has.
            margin_s: seconds kept free of a client's deadline for encoding and sending the answer.
        """
        self._pipeline = pipeline
        self._budget_s = budget_s
        self._margin_s = margin_s

    async def Rank(self, request: pb.RankRequest, context: Context) -> pb.RankResponse:  # noqa: N802 - the method's name on the wire
        """Rank one list."""
        calls.named(request.request_id)
        return await self._rank(request, self._deadline(context))

    async def BatchRank(self, request: pb.BatchRankRequest, context: Context) -> pb.BatchRankResponse:  # noqa: N802
        """Rank several lists concurrently; each has its own outcome."""
        deadline = self._deadline(context)
        lists = convert.to_batch(request)
        return pb.BatchRankResponse(outcomes=await asyncio.gather(*(self._outcome(one, deadline) for one in lists)))

    async def _rank(self, message: pb.RankRequest, deadline: float) -> pb.RankResponse:
        began = time.perf_counter()
        if (call := calls.current.get()) is not None:
            call.surface = convert.surface_name(message)  # before it is judged: refused calls have a surface too
        request = convert.to_request(message)
        if request.validate_only:
            return answer.checked(request, self._pipeline.plan(request).loaded.release.id)
        spent = {"convert": (time.perf_counter() - began) * 1e3}
        return answer.to_response(await self._pipeline.rank(request, deadline, spent), request.candidates.item_ids)

    async def _outcome(self, message: pb.RankRequest, deadline: float) -> pb.RankOutcome:
        try:
            return pb.RankOutcome(response=await self._rank(message, deadline))
        except LongtailError as error:
            return pb.RankOutcome(error=answer.to_error(error))
        except Exception as error:  # the boundary of one list: a bug in it must not take the other lists' answers along
            log.exception("internal_error")
            return pb.RankOutcome(error=answer.to_error(error))

    def _deadline(self, context: Context) -> float:
        """Monotonic seconds by which the answer has to be made."""
        remaining = context.time_remaining()
        if remaining is not None:  # the nearer the deadline the busier the machine: a share of it, too, is kept for what follows
            remaining -= max(self._margin_s, _MARGIN_SHARE * remaining)
        budget = self._budget_s if remaining is None else min(self._budget_s, remaining)
        return time.monotonic() + max(budget, 0.0)
