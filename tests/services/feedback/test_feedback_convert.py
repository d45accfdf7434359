"""The gallery of bad events: each way of being wrong is answered by index and field, and never blocks its batch."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2 as ranking_pb

from ranking.errors import InvalidField, InvalidFields
from ranking.types import Surface
from services.feedback import convert
from services.feedback.types import Event, EventType, Outcome, Rejected
from tests.services.feedback.fakes import NOON, message

YEAR_2000 = 946_684_800

GALLERY: dict[str, tuple[dict[str, Any], str, str]] = {
    "no type": ({"type": pb.EVENT_TYPE_UNSPECIFIED}, "type", "known: EVENT_TYPE_IMPRESSION, EVENT_TYPE_CLICK"),
    "unknown type": ({"type": 77}, "type", "77 is not a type"),
    "unknown surface": ({"surface": 77}, "surface", "77 is not a surface"),
    "no event_id": ({"event_id": ""}, "event_id", "must not be empty"),
    "event_id of 129 bytes": ({"event_id": "x" * 129}, "event_id", "at most 128 bytes, got 129"),
    "event_id of 130 bytes in 65 characters": ({"event_id": "ü" * 65}, "event_id", "at most 128 bytes, got 130"),
    "no item_id": ({"item_id": ""}, "item_id", "must not be empty"),
    "item_id too long": ({"item_id": "x" * 257}, "item_id", "at most 256 bytes"),
    "user_id too long": ({"user_id": "x" * 257}, "user_id", "at most 256 bytes"),
    "ranking_id too long": ({"ranking_id": "x" * 257}, "ranking_id", "at most 256 bytes"),
    "query over 1 kB": ({"query": "x" * 1025}, "query", "at most 1024 bytes, got 1025"),
    "no time": ({"event_time": None}, "event_time", "is required"),
    "time 0": ({"event_time": Timestamp()}, "event_time", "before the year 2000"),
    "before 2000": ({"event_time": Timestamp(seconds=YEAR_2000 - 1)}, "event_time", "before the year 2000"),
    "too far ahead": ({"event_time": Timestamp(seconds=NOON + 301)}, "event_time", "is 301 s ahead of the server's clock"),
    "a nanosecond too far ahead": ({"event_time": Timestamp(seconds=NOON + 300, nanos=1)}, "event_time", "ahead of the server's clock"),
    "milliseconds for seconds": ({"event_time": Timestamp(seconds=NOON * 1000)}, "event_time", "ahead of the server's clock"),
    "negative nanos": ({"event_time": Timestamp(seconds=NOON, nanos=-1)}, "event_time", "nanos must be within"),
    "a second of nanos": ({"event_time": Timestamp(seconds=NOON, nanos=10**9)}, "event_time", "nanos must be within"),
    "order of 129 bytes": ({"order_id": "x" * 129}, "order_id", "at most 128 bytes, got 129"),
    "rating without one": ({"type": pb.EVENT_TYPE_RATING}, "rating", "is required for EVENT_TYPE_RATING"),
    "rating of 0": ({"type": pb.EVENT_TYPE_RATING, "rating": 0}, "rating", "within 1 and 5, got 0"),
    "rating of 5.5": ({"type": pb.EVENT_TYPE_RATING, "rating": 5.5}, "rating", "within 1 and 5, got 5.5"),
    "rating not a number": ({"type": pb.EVENT_TYPE_RATING, "rating": nan}, "rating", "must be finite"),
    "rating on a click": ({"rating": 3}, "rating", "only for EVENT_TYPE_RATING"),
    "position 0": ({"position": 0}, "position", "within 1 and 1000000, got 0"),
    "negative position": ({"position": -1}, "position", "got -1"),
    "negative quantity": ({"quantity": -0.5}, "quantity", "got -0.5"),
    "less than is counted": ({"quantity": 1e-300, "value_micros": 10**12}, "quantity", "must be 0, or at least 0.000001, got 1e-300"),
    "a little less than is counted": ({"quantity": 9e-7}, "quantity", "got 9e-07"),
    "infinite quantity": ({"quantity": inf}, "quantity", "must be finite"),
    "negative value": ({"value_micros": -1}, "value_micros", "got -1"),
    "value over 10^12": ({"value_micros": 10**12 + 1}, "value_micros", "within 0 and 1000000000000"),
    "a millionth for a million": (
        {"quantity": 1e-6, "value_micros": 10**12},
        "value_micros",
        "at most 1000000000000 for each of `quantity`",
    ),
    "a price just over 10^12": ({"quantity": 0.5, "value_micros": 5 * 10**11 + 1}, "value_micros", "got 500000000001 for 0.5"),
}


def batch(*events: pb.Event) -> convert.Batch:
    return convert.to_batch(pb.RecordEventsRequest(events=events), NOON * 10**9)


@pytest.mark.parametrize("name", GALLERY)
def test_a_bad_event_is_named_and_its_neighbours_are_kept(name: str) -> None:
    """Index, field and reason of the bad one; the events before and after it are valid."""
    fields, field, reason = GALLERY[name]
    bad = message(**fields)
    if fields.get("event_time", bad) is None:
        bad.ClearField("event_time")
    found = batch(message("a"), bad, message("b"))
    assert [e.event_id for e in found.events] == ["a", "b"]
    assert found.indices == [0, 2]
    (rejected,) = found.rejected
    assert (rejected.index, rejected.field) == (1, field)
    assert reason in rejected.reason


EDGES: dict[str, dict[str, Any]] = {
    "ids of their full length": {"event_id": "ü" * 64, "item_id": "x" * 256, "user_id": "x" * 256, "ranking_id": "x" * 256},
    "an order of its full length": {"type": pb.EVENT_TYPE_PURCHASE, "order_id": "ü" * 64},
    "query of 1 kB": {"query": "x" * 1024},
    "nobody known": {"user_id": ""},
    "five minutes ahead": {"event_time": Timestamp(seconds=NOON + 300)},
    "the first of 2000": {"event_time": Timestamp(seconds=YEAR_2000)},
    "rating of half a star": {"type": pb.EVENT_TYPE_RATING, "rating": 4.5},
    "nothing paid": {"type": pb.EVENT_TYPE_PURCHASE, "quantity": 0, "value_micros": 0},
    "the largest numbers": {"position": 10**6, "quantity": 1e6, "value_micros": 10**12},
    "the largest price": {"quantity": 0.5, "value_micros": 5 * 10**11},
    "the least there can be of it": {"quantity": 1e-6, "value_micros": 10**6},
}


@pytest.mark.parametrize("name", EDGES)
def test_what_is_just_within_the_rules_is_taken(name: str) -> None:
    """The limits themselves are allowed."""
    assert batch(message(**EDGES[name])).rejected == []


def test_every_field_arrives() -> None:
    """The event of the house says what the message said; what is unset is None, what is 0 is 0."""
    sent = pb.Event(
        event_id="e",
        type=pb.EVENT_TYPE_PURCHASE,
        event_time=Timestamp(seconds=NOON, nanos=7),
        user_id="u",
        item_id="i",
        surface=ranking_pb.SURFACE_ADS,
        query="q",
        ranking_id="r",
        position=3,
        quantity=0.0,
        value_micros=0,
        order_id="o",
    )
    (event,) = batch(sent).events
    assert event == Event("e", EventType.PURCHASE, NOON * 10**9 + 7, "u", "i", Surface.ADS, "q", "r", 3, 0.0, 0, None, "o")
    (plain,) = batch(message()).events
    assert plain.order_id == ""
    assert (plain.surface, plain.position, plain.quantity, plain.value_micros, plain.rating) == (None,) * 5


@pytest.mark.parametrize("n", [0, 1001])
def test_a_batch_has_1_to_1000_events(n: int) -> None:
    """Anything else is refused as a whole."""
    with pytest.raises(InvalidField, match=f"events: need 1 to 1000 events, got {n}"):
        batch(*(message(str(i)) for i in range(n)))


def test_the_answer_counts_and_names() -> None:
    """Stored and duplicate events are counted; conflicts and forgotten users join the invalid events, in the request's order."""
    asked = batch(message("a"), message("b"), message(""), message("c"), message("d"))
    answer = convert.to_response(asked, [Outcome.STORED, Outcome.CONFLICT, Outcome.DUPLICATE, Outcome.FORGOTTEN])
    assert (answer.accepted, answer.duplicates) == (1, 1)
    assert [(r.index, r.field) for r in answer.rejected] == [(1, "event_id"), (2, "event_id"), (4, "user_id")]


def test_nothing_left_is_an_error_that_names_every_event() -> None:
    """When each event is rejected, by the door or by the log, the fields are named as the caller wrote them."""
    asked = batch(message(""), message("a", item_id=""), message("b"))
    with pytest.raises(InvalidFields) as caught:
        convert.to_response(asked, [Outcome.CONFLICT])
    assert [v.field for v in caught.value.violations] == ["events[0].event_id", "events[1].item_id", "events[2].event_id"]


JUNK = st.builds(
    pb.Event,
    event_id=st.text(max_size=200),
    type=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 7),
    event_time=st.none() | st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)),
    user_id=st.text(max_size=300),
    item_id=st.text(max_size=300),
    surface=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3),
    query=st.text(max_size=1100),
    position=st.none() | st.integers(-(2**31), 2**31 - 1),
    quantity=st.none() | st.floats(),
    value_micros=st.none() | st.integers(-(2**63), 2**63 - 1),
    rating=st.none() | st.floats(),
    order_id=st.text(max_size=200),
)


@given(st.lists(JUNK | st.binary(max_size=60), min_size=1, max_size=5))
def test_junk_is_never_a_bug(events: list[pb.Event | bytes]) -> None:
    """Whatever a message holds, each event is valid or rejected with a field of the message, and nothing else is raised."""
    request = pb.RecordEventsRequest()
    for one in events:
        if isinstance(one, pb.Event):
            request.events.append(one)
        else:
            try:
                request.events.append(pb.Event.FromString(one))
            except (DecodeError, ValueError):  # what is no message never reaches the door
                request.events.append(pb.Event())
    found = convert.to_batch(request, NOON * 10**9)
    assert sorted([*found.indices, *(r.index for r in found.rejected)]) == list(range(len(events)))
    assert {r.field for r in found.rejected} <= set(pb.Event.DESCRIPTOR.fields_by_name)
    assert all(isinstance(r, Rejected) and r.reason for r in found.rejected)
