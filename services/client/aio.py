"""The typed client for asyncio: as `services.client.client.RankingClient`, method by method."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import grpc
from longtail.features.v1 import online_feature_service_pb2_grpc as online_rpc
from longtail.feedback.v1 import feedback_service_pb2 as feedback_pb
from longtail.feedback.v1 import feedback_service_pb2_grpc as feedback_rpc
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2_grpc as rpc

from ranking.features import Entity
from services.client import channel, check
from services.client.channel import Tls
from services.client.door import passing
from services.client.features import OnlineFeatures, features_request, unpacked
from services.client.throttle import DEFAULT, Throttling


class RankingClient:
    """Channels to one or more gateways; use it as an async context manager, on one event loop."""

    def __init__(
        self, address: str, *, timeout_s: float, tls: Tls | None = None, token: str = "", throttling: Throttling | None = DEFAULT
    ) -> None:
        """As `services.client.client.RankingClient`.

        Raises:
            InvalidField: as there.
        """
        self._timeout_s = channel.seconds(timeout_s)
        self._metadata = channel.metadata(address, tls, token)
        self._throttles = channel.throttles(throttling)
        secret = channel.credentials(tls)
        self._channels = {
            service: grpc.aio.insecure_channel(address, options=channel.options(service))
            if secret is None
            else grpc.aio.secure_channel(address, secret, options=channel.options(service))
            for service in channel.SERVICES
        }
        self._ranking = rpc.RankingServiceStub(self._channels[channel.RANKING])
        self._feedback = feedback_rpc.FeedbackServiceStub(self._channels[channel.FEEDBACK])
        self._online = online_rpc.OnlineFeatureServiceStub(self._channels[channel.ONLINE])

    async def __aenter__(self) -> RankingClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in self._channels.values():
            await one.close()

    @property
    def refused_here(self) -> dict[str, int]:
        """Calls this client did not send because the gateway refuses many, so far, by full name of the service; for your metrics."""
        return channel.refused_here(self._throttles)

    async def rank(self, request: pb.RankRequest, *, timeout_s: float | None = None) -> pb.RankResponse:
        """One ranked list.

        Raises:
            InvalidField: something else than a request.
            grpc.aio.AioRpcError: as the proto says; see `services.client.errors`.
        """
        check.typed("request", request, pb.RankRequest)
        with passing(self._throttles[channel.RANKING]):
            return await self._ranking.Rank(request, timeout=self._seconds(timeout_s), metadata=self._metadata)

    async def batch_rank(self, requests: Sequence[pb.RankRequest], *, timeout_s: float | None = None) -> pb.BatchRankResponse:
        """Up to 32 lists, each with an outcome of its own.

        Raises:
            InvalidField: something else than requests.
            grpc.aio.AioRpcError: as the proto says.
        """
        batch = pb.BatchRankRequest(requests=check.all_of("requests", requests, pb.RankRequest))
        with passing(self._throttles[channel.RANKING]):
            return await self._ranking.BatchRank(batch, timeout=self._seconds(timeout_s), metadata=self._metadata)

    async def record(self, events: Sequence[feedback_pb.Event], *, timeout_s: float | None = None) -> feedback_pb.RecordEventsResponse:
        """Have events kept; returns once they are durable.

        Raises:
            InvalidField: something else than events.
            grpc.aio.AioRpcError: as the proto says.
        """
        batch = feedback_pb.RecordEventsRequest(events=check.all_of("events", events, feedback_pb.Event))
        with passing(self._throttles[channel.FEEDBACK]):
            return await self._feedback.RecordEvents(batch, timeout=self._seconds(timeout_s), metadata=self._metadata)

    async def features(
        self,
        entity: Entity,
        ids: Sequence[str],
        features: Sequence[str] = (),
        *,
        service: str = "",
        max_age_s: float | None = None,
        timeout_s: float | None = None,
    ) -> OnlineFeatures:
        """What the platform knows now of users or items, see `features_request`.

        Raises:
            InvalidField: as `features_request`.
            grpc.aio.AioRpcError: as the proto says.
        """
        request = features_request(entity, ids, features, service=service, max_age_s=max_age_s)
        with passing(self._throttles[channel.ONLINE]):
            answer = await self._online.GetOnlineFeatures(request, timeout=self._seconds(timeout_s), metadata=self._metadata)
        return unpacked(answer)

    def _seconds(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else channel.seconds(timeout_s)
