"""The nouns of feedback. Read this first. Knows no protobuf and no store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

from ranking.types import Surface

MAX_VALUE_MICROS = 10**12
"""What one event may say was paid, and what one unit may cost by it: a million in currency. More is a mistake, or malice. One limit for
the door and for whoever counts: what is accepted counts."""
_MILLION = 10**6
LEAST_QUANTITY = 1 / _MILLION
"""Less than one that is counted would count as none told, and escape what `beyond_belief` says of its price."""


class EventType(StrEnum):
    """What happened."""

    IMPRESSION = "impression"
    CLICK = "click"
    ADD_TO_CART = "add_to_cart"
    PURCHASE = "purchase"
    RATING = "rating"
    DISLIKE = "dislike"


class Event(NamedTuple):
    """One thing one user did with one item. Two are the same event when all fields are equal; limits are in the .proto file."""

    event_id: str
    type: EventType
    event_time_ns: int  # since 1970, UTC
    user_id: str  # empty: nobody known
    item_id: str
    surface: Surface | None = None  # None: on no list of search or ads
    query: str = ""
    ranking_id: str = ""  # of the answer the item was shown from; empty: none
    position: int | None = None  # from 1
    quantity: float | None = None
    value_micros: int | None = None  # of all of `quantity` together
    rating: float | None = None  # 1 to 5
    order_id: str = ""  # purchases of one order are one basket; empty: not told


def millionths(quantity: float | None) -> int:
    """A quantity as it is counted: whole numbers add up alike in any order."""
    return round((quantity or 0.0) * _MILLION)


def beyond_belief(quantity: float | None, value_micros: int | None) -> str:
    """Why an event's value cannot be; empty: it can."""
    value, parts = value_micros or 0, millionths(quantity)
    if value > MAX_VALUE_MICROS:
        return f"at most {MAX_VALUE_MICROS}, got {value}"
    if parts and value * _MILLION > MAX_VALUE_MICROS * parts:
        return f"at most {MAX_VALUE_MICROS} for each of `quantity`, got {value} for {quantity:g}"
    return ""


class Outcome(Enum):
    """What became of an event handed to the log."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # it was there already, with the same content
    CONFLICT = "conflict"  # its id was there already, with another content; nothing changed
    FORGOTTEN = "forgotten"  # its user was forgotten; nothing changed


@dataclass(frozen=True, slots=True, order=True)
class Rejected:
    """Why one event of a batch was not stored."""

    index: int
    field: str
    reason: str
