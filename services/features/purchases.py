"""From events to what is counted of them. Pure; knows neither the log nor the state that keeps the counts."""

from __future__ import annotations

from typing import NamedTuple

from ranking.features import stable_key
from services.feedback.types import Event, EventType, beyond_belief, millionths

_MILLION = 10**6


class Purchase(NamedTuple):
    """What one event adds to a line: lines are per user, item and basket. Whole numbers only: their sums are equal in any order."""

    basket: int
    bought_at: int  # µs since 1970
    value: int  # millionths of the currency unit, 0 where it was not told
    paid: int  # the same where it tells a price, else 0
    quantity: int  # millionths, of what was paid for


class Happening(NamedTuple):
    """What one event says, whatever its type."""

    offset: int  # of the log
    key: int  # of the event's id: orders events of one instant, whenever they came
    user_id: str  # empty: nobody known
    item_id: str
    type: EventType
    at: int  # µs since 1970
    total: int  # of a rating, in millionths; else 0
    recent: bool  # whether it is something the user did, and not something that was shown
    purchase: Purchase | None


class PoisonError(ValueError):
    """The event is valid on the wire and means nothing that could be counted; the message says why."""


def happening(offset: int, event: Event) -> Happening:
    """What an event says.

    Raises:
        PoisonError: it cannot be.
    """
    return Happening(
        offset,
        stable_key(event.event_id),
        event.user_id,
        event.item_id,
        event.type,
        event.event_time_ns // 1000,
        round((event.rating or 0.0) * _MILLION),
        event.type is not EventType.IMPRESSION,
        purchase(event) if event.type is EventType.PURCHASE else None,
    )


def purchase(event: Event) -> Purchase:
    """The line of a purchase.

    Events of one order are one basket. Where no order is told it is one user's purchases at the same instant, and for nobody known
    each event.

    Raises:
        PoisonError: its value is beyond belief.
    """
    value = event.value_micros or 0
    if why := beyond_belief(event.quantity, event.value_micros):  # logs from before this was asked at the door have such events
        raise PoisonError(f"value_micros: {why}")
    quantity = millionths(event.quantity)
    tells_price = value > 0 and quantity > 0
    return Purchase(
        _basket(event),
        event.event_time_ns // 1000,
        value,
        value if tells_price else 0,
        quantity if tells_price else 0,
    )


def basket_of(user_id: str, order_id: str) -> int:
    """The number of a user's basket, the same wherever the order comes from."""
    return stable_key(f"{user_id}\0{order_id}")


def _basket(event: Event) -> int:
    if event.order_id:
        return basket_of(event.user_id, event.order_id)
    return stable_key(f"{event.user_id}\0\0{event.event_time_ns}" if event.user_id else f"\0\0\0{event.event_id}")
