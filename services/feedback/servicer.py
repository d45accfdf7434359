"""`FeedbackService` on the wire: unwrap, call, wrap. Errors leave as exceptions; the interceptor gives them their status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.feedback.v1 import feedback_service_pb2_grpc as pb_grpc

from ranking.errors import OutOfTime, Unavailable
from services.feedback import convert
from services.feedback.recorder import Recorder
from services.feedback.types import Event, Outcome

NAME = pb.DESCRIPTOR.services_by_name["FeedbackService"].full_name
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only
_MARGIN_SHARE = 0.1  # of a client's deadline, kept free for sending the answer


class FeedbackServicer(pb_grpc.FeedbackServiceServicer):
    """Serves a recorder."""

    def __init__(self, recorder: Recorder, *, wait_s: float, clock: Callable[[], int] = time.time_ns) -> None:
        """Bound the time of a call.

        Args:
            recorder: keeps the events.
            wait_s: longest a call waits for it; a nearer client deadline wins.
            clock: nanoseconds since 1970.
        """
        self._recorder = recorder
        self._wait_s = wait_s
        self._clock = clock

    async def RecordEvents(  # noqa: N802 - the method's name on the wire
        self, request: pb.RecordEventsRequest, context: Context
    ) -> pb.RecordEventsResponse:
        """Store a batch of events; returns once they are durable."""
        batch = convert.to_batch(request, self._clock())
        outcomes = await self._stored(batch.events, context.time_remaining()) if batch.events else []
        return convert.to_response(batch, outcomes)

    async def _stored(self, events: list[Event], remaining_s: float | None) -> list[Outcome]:
        allowed_s = float("inf") if remaining_s is None else max(remaining_s, 0.0) * (1.0 - _MARGIN_SHARE)
        wait_s = min(self._wait_s, allowed_s)
        try:
            async with asyncio.timeout(wait_s):
                return await self._recorder.append(events)
        except TimeoutError:
            why = f"event log: no answer within {wait_s:.3g} s; nothing is acknowledged, the same events may be sent again"
            raise (Unavailable if allowed_s > self._wait_s else OutOfTime)(why) from None
