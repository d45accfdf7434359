"""A typed client of the gateway: requests built, answers as they are, features as arrays. Thin: the protos are the contract."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from longtail.features.v1 import online_feature_service_pb2_grpc as online_rpc
from longtail.feedback.v1 import feedback_service_pb2 as feedback_pb
from longtail.feedback.v1 import feedback_service_pb2_grpc as feedback_rpc
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2_grpc as rpc

from ranking.errors import InvalidField
from ranking.features import Entity
from ranking.types import Explain, Surface
from services.client import channel, check
from services.client.channel import Tls
from services.client.door import passing
from services.client.features import OnlineFeatures, features_request, unpacked
from services.client.throttle import DEFAULT, Throttling
from services.feedback.types import EventType

_SURFACES = {Surface.SEARCH: pb.SURFACE_SEARCH, Surface.ADS: pb.SURFACE_ADS}
_LEVELS = {Explain.NONE: pb.EXPLAIN_LEVEL_NONE, Explain.SCORES: pb.EXPLAIN_LEVEL_SCORES, Explain.FULL: pb.EXPLAIN_LEVEL_FULL}
_WIRE = {"position": 2**31, "top_k": 2**31, "value_micros": 2**63, "bid_micros": 2**63}  # int32 and int64


def rank_request(
    surface: Surface,
    item_ids: Sequence[str],
    *,
    user_id: str = "",
    query: str = "",
    retrieval_scores: Sequence[float] = (),
    bid_micros: Sequence[int] = (),
    columns: Mapping[str, Sequence[float]] | None = None,
    top_k: int | None = None,
    policy: str = "",
    release: str = "",
    explain: Explain = Explain.NONE,
    request_id: str = "",
    opted_out: bool = False,
) -> pb.RankRequest:
    """Build a request; limits and errors are the gateway's, which names the field.

    Args:
        surface: where the list is shown.
        item_ids: (n,) candidates in retrieval order.
        user_id: empty or unknown: ranked with defaults.
        query: empty: matched with what the user buys.
        retrieval_scores: (n,) or empty.
        bid_micros: (n,) for ADS, empty for SEARCH.
        columns: request-time features by name, (n,) each.
        top_k: number of results; None: all.
        policy: fairness policy by name; empty: the surface's active one.
        release: pins a release; empty: the active one.
        explain: how much each result says about itself.
        request_id: echoed; empty: the gateway makes one.
        opted_out: ranked as nobody known; nothing of the user is read, logged or kept.

    Raises:
        InvalidField: a value is of another type than the field, or a text is no Unicode.
    """
    check.typed("surface", surface, Surface)
    check.typed("explain", explain, Explain)
    texts = {"user_id": user_id, "query": query, "policy": policy, "release": release, "request_id": request_id}
    for name, value in texts.items():
        check.text(name, value)
    if top_k is not None:
        check.typed("top_k", top_k, int)
        _carried("top_k", top_k)
    if not isinstance(opted_out, bool):
        raise InvalidField("opted_out", f"must be True or False, got {opted_out!r}")
    return pb.RankRequest(
        request_id=request_id,
        surface=_SURFACES[surface],
        query=query,
        user_id=user_id,
        candidates=pb.Candidates(
            item_ids=check.texts("item_ids", item_ids),
            retrieval_scores=check.numbers("retrieval_scores", retrieval_scores),
            bid_micros=[int(bid) for bid in check.numbers("bid_micros", bid_micros, whole_below=_WIRE["bid_micros"])],
            columns=_float_columns(columns),
        ),
        top_k=top_k,
        policy=policy,
        release=release,
        explain=_LEVELS[explain],
        opted_out=opted_out,
    )


def _carried(field: str, number: int) -> None:
    if abs(number) >= _WIRE[field]:
        raise InvalidField(field, f"{check.shown(number)} is beyond what the wire can carry")


def _float_columns(columns: Mapping[str, Sequence[float]] | None) -> list[pb.FloatColumn]:
    if columns is None:
        return []
    check.typed("columns", columns, Mapping)
    for name in columns:
        check.text("columns", name)
    return [pb.FloatColumn(name=name, values=check.numbers(f"columns[{name!r}]", values)) for name, values in columns.items()]


def event(
    kind: EventType,
    item_id: str,
    *,
    user_id: str = "",
    event_time: datetime | None = None,
    event_id: str = "",
    surface: Surface | None = None,
    query: str = "",
    ranking_id: str = "",
    position: int | None = None,
    quantity: float | None = None,
    value_micros: int | None = None,
    rating: float | None = None,
    order_id: str = "",
) -> feedback_pb.Event:
    """Build an event; limits and errors are the gateway's, which names the field. Keep it until acknowledged: its id makes it count once.

    Args:
        kind: what happened.
        item_id: to which item.
        user_id: who did it; empty: nobody known.
        event_time: when, with a time zone; None: now. A gateway that replays historical data has a clock of its own
            (`serving.json`), and rejects what is ahead of it.
        event_id: unique; empty: a new one.
        surface: where the item was shown; None: on no list.
        query: what was searched for.
        ranking_id: of the answer the item was shown from.
        position: on the page, from 1.
        quantity: how many.
        value_micros: paid for all of them, in millionths of the currency unit.
        rating: 1 to 5, for ratings only.
        order_id: what the purchase is part of; empty: one user's purchases at the same time are one order.

    Raises:
        InvalidField: a value is of another type than the field, a text is no Unicode, or `event_time` has no time zone.
    """
    check.typed("kind", kind, EventType)
    texts = {"item_id": item_id, "user_id": user_id, "event_id": event_id, "query": query, "ranking_id": ranking_id, "order_id": order_id}
    for name, value in texts.items():
        check.text(name, value)
    if surface is not None:
        check.typed("surface", surface, Surface)
    for name, number in (("position", position), ("value_micros", value_micros)):
        if number is not None:
            check.typed(name, number, int)
            _carried(name, number)
    for name, amount in {"quantity": quantity, "rating": rating}.items():
        if amount is not None:
            check.number(name, amount)
    when = datetime.now(UTC) if event_time is None else event_time
    check.typed("event_time", when, datetime)
    if when.tzinfo is None:
        raise InvalidField("event_time", f"needs a time zone, got {when.isoformat()}")
    time = Timestamp()
    try:
        time.FromDatetime(when.astimezone(UTC))
    except OverflowError:
        raise InvalidField("event_time", f"is in none of the years 1 to 9999 of UTC, got {when.isoformat()}") from None
    return feedback_pb.Event(
        event_id=event_id or uuid.uuid4().hex,
        type=feedback_pb.EventType.Value(f"EVENT_TYPE_{kind.name}"),
        event_time=time,
        user_id=user_id,
        item_id=item_id,
        surface=pb.SURFACE_UNSPECIFIED if surface is None else _SURFACES[surface],
        query=query,
        ranking_id=ranking_id,
        position=position,
        quantity=quantity,
        value_micros=value_micros,
        rating=rating,
        order_id=order_id,
    )


class RankingClient:
    """Channels to one or more gateways; use it as a context manager, share it between threads."""

    def __init__(
        self, address: str, *, timeout_s: float, tls: Tls | None = None, token: str = "", throttling: Throttling | None = DEFAULT
    ) -> None:
        """Nothing is connected before the first call.

        Args:
            address: `host:port`; or any target of gRPC that resolves to several, `dns:///gateways.example:50051`: they take turns.
            timeout_s: of every call that does not say otherwise, all attempts together. There is no default: only the caller knows how long
                its page can wait, and the gateway answers with what it has by then.
            tls: None: plain text.
            token: bearer token, from `longtail tokens create`.
            throttling: when calls are refused here, without being sent, because the gateway refuses many for want of room; None: never.
                `RefusedHere` of `services.client.errors` is their error, of the same code as the gateway's and with when to come back.

        Raises:
            InvalidField: `timeout_s` is no deadline, the token would cross the network in plain text or cannot be sent at all, or an
                argument is of another type.
        """
        self._timeout_s = channel.seconds(timeout_s)
        self._metadata = channel.metadata(address, tls, token)
        self._throttles = channel.throttles(throttling)
        secret = channel.credentials(tls)
        self._channels = {
            service: grpc.insecure_channel(address, options=channel.options(service))
            if secret is None
            else grpc.secure_channel(address, secret, options=channel.options(service))
            for service in channel.SERVICES
        }
        self._ranking = rpc.RankingServiceStub(self._channels[channel.RANKING])
        self._feedback = feedback_rpc.FeedbackServiceStub(self._channels[channel.FEEDBACK])
        self._online = online_rpc.OnlineFeatureServiceStub(self._channels[channel.ONLINE])

    def __enter__(self) -> RankingClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in self._channels.values():
            one.close()

    @property
    def refused_here(self) -> dict[str, int]:
        """Calls this client did not send because the gateway refuses many, so far, by full name of the service; for your metrics."""
        return channel.refused_here(self._throttles)

    def rank(self, request: pb.RankRequest, *, timeout_s: float | None = None) -> pb.RankResponse:
        """One ranked list.

        Raises:
            InvalidField: something else than a request.
            grpc.RpcError: as the proto says; `services.client.errors` reads the offending fields, or when to come back, from it.
        """
        check.typed("request", request, pb.RankRequest)
        with passing(self._throttles[channel.RANKING]):
            return self._ranking.Rank(request, timeout=self._seconds(timeout_s), metadata=self._metadata)

    def batch_rank(self, requests: Sequence[pb.RankRequest], *, timeout_s: float | None = None) -> pb.BatchRankResponse:
        """Up to 32 lists, each with an outcome of its own.

        Raises:
            InvalidField: something else than requests.
            grpc.RpcError: as the proto says.
        """
        batch = pb.BatchRankRequest(requests=check.all_of("requests", requests, pb.RankRequest))
        with passing(self._throttles[channel.RANKING]):
            return self._ranking.BatchRank(batch, timeout=self._seconds(timeout_s), metadata=self._metadata)

    def record(self, events: Sequence[feedback_pb.Event], *, timeout_s: float | None = None) -> feedback_pb.RecordEventsResponse:
        """Have events kept; returns once they are durable. Repeated while the gateway or its event log is away, which is safe.

        Args:
            events: at most 1,000, see `event`; the same ones may be sent again after any error but INVALID_ARGUMENT.
            timeout_s: for all attempts together.

        Returns:
            How many were stored, how many were there already, and which were rejected and why.

        Raises:
            InvalidField: something else than events.
            grpc.RpcError: as the proto says; INVALID_ARGUMENT: every event was rejected, or there are none or too many.
        """
        batch = feedback_pb.RecordEventsRequest(events=check.all_of("events", events, feedback_pb.Event))
        with passing(self._throttles[channel.FEEDBACK]):
            return self._feedback.RecordEvents(batch, timeout=self._seconds(timeout_s), metadata=self._metadata)

    def features(
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
            grpc.RpcError: as the proto says.
        """
        request = features_request(entity, ids, features, service=service, max_age_s=max_age_s)
        with passing(self._throttles[channel.ONLINE]):
            answer = self._online.GetOnlineFeatures(request, timeout=self._seconds(timeout_s), metadata=self._metadata)
        return unpacked(answer)

    def _seconds(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else channel.seconds(timeout_s)
