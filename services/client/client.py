"""A typed client of the gateway: requests built, answers as they are, features as arrays. Thin: the protos are the contract."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

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
from services.client.features import OnlineFeatures, features_request, unpacked
from services.feedback.types import EventType

_SURFACES = {Surface.SEARCH: pb.SURFACE_SEARCH, Surface.ADS: pb.SURFACE_ADS}
_LEVELS = {Explain.NONE: pb.EXPLAIN_LEVEL_NONE, Explain.SCORES: pb.EXPLAIN_LEVEL_SCORES, Explain.FULL: pb.EXPLAIN_LEVEL_FULL}
_WIRE = {"position": 2**31, "value_micros": 2**63}  # int32 and int64
_MAX_ANSWER_BYTES = 32 * 1024 * 1024  # more than the largest answer
# Recording again is harmless, since an event counts once: gRPC itself repeats a call that found the server away or its event log down.
_RETRY = {
    "methodConfig": [
        {
            "name": [{"service": "longtail.feedback.v1.FeedbackService"}],
            "retryPolicy": {
                "maxAttempts": 5,  # the most gRPC allows
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


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
    """
    return pb.RankRequest(
        request_id=request_id,
        surface=_SURFACES[surface],
        query=query,
        user_id=user_id,
        candidates=pb.Candidates(
            item_ids=item_ids,
            retrieval_scores=retrieval_scores,
            bid_micros=bid_micros,
            columns=[pb.FloatColumn(name=name, values=values) for name, values in (columns or {}).items()],
        ),
        top_k=top_k,
        policy=policy,
        release=release,
        explain=_LEVELS[explain],
        opted_out=opted_out,
    )


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
        InvalidField: a value is of another type than the field, or `event_time` has no time zone.
    """
    _check("kind", kind, EventType)
    texts = {"item_id": item_id, "user_id": user_id, "event_id": event_id, "query": query, "ranking_id": ranking_id, "order_id": order_id}
    for name, text in texts.items():
        _check(name, text, str)
    if surface is not None:
        _check("surface", surface, Surface)
    for name, number in (("position", position), ("value_micros", value_micros)):
        if number is not None:
            _check(name, number, int)
            if abs(number) >= _WIRE[name]:
                raise InvalidField(name, f"{number} is beyond what the wire can carry")
    for name, amount in {"quantity": quantity, "rating": rating}.items():
        if amount is not None:
            _check(name, amount, float, int)
    when = event_time or datetime.now(UTC)
    _check("event_time", when, datetime)
    if when.tzinfo is None:
        raise InvalidField("event_time", f"needs a time zone, got {when.isoformat()}")
    time = Timestamp()
    time.FromDatetime(when.astimezone(UTC))
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


def _check(field: str, value: object, *types: type) -> None:
    if not isinstance(value, types) or isinstance(value, bool):
        raise InvalidField(field, f"must be {' or '.join(t.__name__ for t in types)}, got {value!r}")


class RankClient:
    """One channel to a gateway; use it as a context manager, share it between threads."""

    def __init__(self, address: str) -> None:
        # A gateway that restarts is found again within a second instead of after gRPC's default back-off.
        options: list[tuple[str, str | int]] = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
        options += [("grpc.service_config", json.dumps(_RETRY)), ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = rpc.RankingServiceStub(self._channel)
        self._feedback = feedback_rpc.FeedbackServiceStub(self._channel)
        self._online = online_rpc.OnlineFeatureServiceStub(self._channel)

    def __enter__(self) -> RankClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._channel.close()

    def rank(self, request: pb.RankRequest, *, timeout_s: float = 10.0) -> Any:
        """One ranked list.

        Raises:
            grpc.RpcError: as the proto says; INVALID_ARGUMENT carries the offending fields.
        """
        return self._stub.Rank(request, timeout=timeout_s)

    def record(self, events: Sequence[feedback_pb.Event], *, timeout_s: float = 10.0) -> Any:
        """Have events kept; returns once they are durable. Repeated while the gateway or its event log is away, which is safe.

        Args:
            events: at most 1,000, see `event`; the same ones may be sent again after any error but INVALID_ARGUMENT.
            timeout_s: for all attempts together.

        Returns:
            `RecordEventsResponse`: how many were stored, how many were there already, and which were rejected and why.

        Raises:
            grpc.RpcError: as the proto says; INVALID_ARGUMENT: every event was rejected, or there are none or too many.
        """
        return self._feedback.RecordEvents(feedback_pb.RecordEventsRequest(events=events), timeout=timeout_s)

    def features(
        self,
        entity: Entity,
        ids: Sequence[str],
        features: Sequence[str] = (),
        *,
        service: str = "",
        max_age_s: float | None = None,
        timeout_s: float = 10.0,
    ) -> OnlineFeatures:
        """What the platform knows now of users or items, see `features_request`.

        Raises:
            grpc.RpcError: as the proto says; INVALID_ARGUMENT carries the offending fields.
        """
        request = features_request(entity, ids, features, service=service, max_age_s=max_age_s)
        return unpacked(self._online.GetOnlineFeatures(request, timeout=timeout_s))
