"""`OnlineFeatureService` on the wire: unwrap, call, wrap. Errors leave as exceptions; the interceptor gives them their status."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc
from longtail.features.v1 import online_feature_service_pb2 as pb
from longtail.features.v1 import online_feature_service_pb2_grpc as pb_grpc

from services.online import convert
from services.online.read import Reader

NAME = pb.DESCRIPTOR.services_by_name["OnlineFeatureService"].full_name
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only
_MARGIN_SHARE = 0.1  # of a client's deadline, kept free for sending the answer


class OnlineFeatureServicer(pb_grpc.OnlineFeatureServiceServicer):
    """Serves a reader."""

    def __init__(self, reader: Reader, *, wait_s: float) -> None:
        """Bound the time of a call.

        Args:
            reader: answers.
            wait_s: longest a call waits for the feature store; a nearer client deadline wins.
        """
        self._reader = reader
        self._wait_s = wait_s

    async def GetOnlineFeatures(  # noqa: N802 - the method's name on the wire
        self, request: pb.GetOnlineFeaturesRequest, context: Context
    ) -> pb.GetOnlineFeaturesResponse:
        """Read features of users or items."""
        question = convert.to_question(request)
        remaining = context.time_remaining()
        limit_s = float("inf") if remaining is None else max(remaining, 0.0) * (1.0 - _MARGIN_SHARE)
        answer = await self._reader.read(question, min(self._wait_s, limit_s), limit_s)
        return convert.to_response(question, answer)
