"""Between the wire and `services.feedback.types`: the only module of feedback, besides the servicer, that knows both.

Every rule of the .proto file's comments is checked here, for each event on its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2 as ranking_pb

from ranking.errors import InvalidField, InvalidFields
from ranking.types import Surface
from services.feedback.types import LEAST_QUANTITY, MAX_VALUE_MICROS, Event, EventType, Outcome, Rejected, beyond_belief

MAX_EVENTS = 1000
MAX_EVENT_ID_BYTES = 128
MAX_ID_BYTES = 256
MAX_ORDER_ID_BYTES = 128
MAX_QUERY_BYTES = 1024
MAX_POSITION = 10**6
MAX_QUANTITY = 1e6
FUTURE_S = 300  # clocks of those who send events may run ahead by so much
_FIRST_S = 946_684_800  # 2000-01-01T00:00:00Z: what is older comes from a clock that was never set

_Whole: TypeAlias = Literal["position", "value_micros"]
_Number: TypeAlias = Literal["quantity", "rating"]
_TYPES = {getattr(pb, f"EVENT_TYPE_{kind.name}"): kind for kind in EventType}
_SURFACES = {
    ranking_pb.SURFACE_UNSPECIFIED: None,
    ranking_pb.SURFACE_SEARCH: Surface.SEARCH,
    ranking_pb.SURFACE_ADS: Surface.ADS,
}
_REASONS = {
    Outcome.CONFLICT: ("event_id", "an event with this id and another content is stored already"),
    Outcome.FORGOTTEN: ("user_id", "this user was forgotten; nothing of them is stored any more"),
}


class Batch(NamedTuple):
    """A request, checked event by event."""

    events: list[Event]  # the valid ones
    indices: list[int]  # where each of them stands in the request
    rejected: list[Rejected]


def to_batch(message: pb.RecordEventsRequest, now_ns: int) -> Batch:
    """The request's events, the invalid ones apart.

    Args:
        message: the request.
        now_ns: nanoseconds since 1970.

    Raises:
        InvalidField: there are none or too many.
    """
    n = len(message.events)
    if not 1 <= n <= MAX_EVENTS:
        raise InvalidField("events", f"need 1 to {MAX_EVENTS} events, got {n}")
    batch = Batch([], [], [])
    for index, one in enumerate(message.events):
        try:
            batch.events.append(_event(one, now_ns))
            batch.indices.append(index)
        except InvalidField as wrong:
            batch.rejected.append(Rejected(index, wrong.field, wrong.reason))
    return batch


def to_response(batch: Batch, outcomes: Sequence[Outcome]) -> pb.RecordEventsResponse:
    """The answer.

    Args:
        batch: what was asked.
        outcomes: of its valid events.

    Raises:
        InvalidFields: every event of the batch was rejected.
    """
    refused = [Rejected(i, *_REASONS[outcome]) for i, outcome in zip(batch.indices, outcomes, strict=True) if outcome in _REASONS]
    rejected = sorted([*batch.rejected, *refused])
    if len(rejected) == len(batch.events) + len(batch.rejected):
        raise InvalidFields([InvalidField(f"events[{r.index}].{r.field}", r.reason) for r in rejected])
    return pb.RecordEventsResponse(
        accepted=sum(outcome is Outcome.STORED for outcome in outcomes),
        duplicates=sum(outcome is Outcome.DUPLICATE for outcome in outcomes),
        rejected=[pb.Rejected(index=r.index, field=r.field, reason=r.reason) for r in rejected],
    )


def _event(message: pb.Event, now_ns: int) -> Event:
    """One event.

    Raises:
        InvalidField: naming its first offending field.
    """
    kind = _TYPES.get(message.type)
    if kind is None:
        raise InvalidField("type", f"{message.type} is not a type of event; known: {', '.join(map(pb.EventType.Name, _TYPES))}")
    if message.surface not in _SURFACES:
        raise InvalidField("surface", f"{message.surface} is not a surface; known: {', '.join(map(ranking_pb.Surface.Name, _SURFACES))}")
    rating = _number(message, "rating", 1.0, 5.0)
    if (rating is not None) != (kind is EventType.RATING):
        raise InvalidField("rating", "is required for EVENT_TYPE_RATING" if rating is None else "is only for EVENT_TYPE_RATING")
    quantity, value = _number(message, "quantity", 0.0, MAX_QUANTITY), _whole(message, "value_micros", 0, MAX_VALUE_MICROS)
    if quantity and quantity < LEAST_QUANTITY:
        raise InvalidField("quantity", f"must be 0, or at least {LEAST_QUANTITY:f}, got {quantity:g}")
    if why := beyond_belief(quantity, value):
        raise InvalidField("value_micros", why)
    return Event(
        _text(message, "event_id", MAX_EVENT_ID_BYTES, required=True),
        kind,
        _time_ns(message, now_ns),
        _text(message, "user_id", MAX_ID_BYTES),
        _text(message, "item_id", MAX_ID_BYTES, required=True),
        _SURFACES[message.surface],
        _text(message, "query", MAX_QUERY_BYTES),
        _text(message, "ranking_id", MAX_ID_BYTES),
        _whole(message, "position", 1, MAX_POSITION),
        quantity,
        value,
        rating,
        _text(message, "order_id", MAX_ORDER_ID_BYTES),
    )


def _text(message: pb.Event, field: str, limit: int, *, required: bool = False) -> str:
    value: str = getattr(message, field)
    if required and not value:
        raise InvalidField(field, "must not be empty")
    if len(value) * 4 > limit and (size := len(value.encode())) > limit:  # a character takes at most 4 bytes
        raise InvalidField(field, f"at most {limit} bytes, got {size}")
    return value


def _time_ns(message: pb.Event, now_ns: int) -> int:
    field = "event_time"
    if not message.HasField("event_time"):
        raise InvalidField(field, "is required")
    seconds, nanos = message.event_time.seconds, message.event_time.nanos
    if not 0 <= nanos < 10**9:
        raise InvalidField(field, f"nanos must be within 0 and 999,999,999, got {nanos}")
    if seconds < _FIRST_S:
        raise InvalidField(field, f"must not be before the year 2000, got {seconds} s since 1970")
    time_ns = seconds * 10**9 + nanos
    if time_ns > now_ns + FUTURE_S * 10**9:
        raise InvalidField(
            field, f"is {(time_ns - now_ns) / 1e9:.9g} s ahead of the server's clock, {_instant(now_ns)}; at most {FUTURE_S} are allowed"
        )
    return time_ns


def _instant(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat()


def _whole(message: pb.Event, field: _Whole, low: int, high: int) -> int | None:
    if not message.HasField(field):
        return None
    value: int = getattr(message, field)
    if not low <= value <= high:
        raise InvalidField(field, f"must be within {low} and {high}, got {value}")
    return value


def _number(message: pb.Event, field: _Number, low: float, high: float) -> float | None:
    if not message.HasField(field):
        return None
    value: float = getattr(message, field)
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidField(field, f"must be finite and within {low:.0f} and {high:.0f}, got {value:g}")
    return value + 0.0  # -0 is 0, however it is stored
