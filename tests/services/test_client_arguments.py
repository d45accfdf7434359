"""What a client is given wrongly is an error with the field's name, before anything is sent."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from ranking.errors import InvalidField
from ranking.features import Entity
from services.client import aio
from services.client.client import RankingClient, event
from services.client.features import features_request
from services.feedback.types import EventType

NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("ids", {"ids": "901062"}),
        ("ids[0]", {"ids": [901062]}),
        ("ids[1]", {"ids": ["901062", "\ud800"]}),
        ("ids", {"ids": 901062}),
        ("features", {"features": "price_28d"}),
        ("features[0]", {"features": [None]}),
        ("service", {"service": 1}),
        ("entity", {"entity": "user"}),
        *(("max_age_s", {"max_age_s": age}) for age in (math.nan, math.inf, 1e30, "x", True)),
    ],
)
def test_features_names_what_is_wrong(field: str, wrong: dict[str, Any]) -> None:
    """One text for several, numbers for texts, ages that no message can carry."""
    given: dict[str, Any] = {"entity": Entity.ITEM, "ids": ["901062"], "features": ["price_28d"]}
    with pytest.raises(InvalidField) as told:
        features_request(**(given | wrong))
    assert told.value.field == field


def test_what_is_right_is_sent_as_it_is() -> None:
    """Any iterable of texts, whole seconds and parts of them."""
    request = features_request(Entity.USER, ("1", "ü"), iter(["orders_all"]), max_age_s=1.5)  # type: ignore[arg-type]
    assert (list(request.ids), list(request.features)) == (["1", "ü"], ["orders_all"])
    assert request.max_age.ToMilliseconds() == 1500


@pytest.mark.parametrize("field", ["item_id", "user_id", "event_id", "query", "ranking_id", "order_id"])
def test_a_text_of_an_event_is_unicode(field: str) -> None:
    """Half a character of UTF-16 is none."""
    given: dict[str, Any] = {"item_id": "1"}
    with pytest.raises(InvalidField) as told:
        event(EventType.CLICK, **(given | {field: "\ud800"}))
    assert told.value.field == field


@pytest.mark.parametrize(("field", "events"), [("events[0]", ["x"]), ("events", event(EventType.CLICK, "1")), ("events", "x")])
def test_record_takes_events(field: str, events: Any) -> None:
    """No texts, and not one event alone; of both clients."""
    with RankingClient(NOWHERE, timeout_s=1.0) as client, pytest.raises(InvalidField) as told:
        client.record(events)
    assert told.value.field == field

    async def call() -> None:
        async with aio.RankingClient(NOWHERE, timeout_s=1.0) as client:
            await client.record(events)

    with pytest.raises(InvalidField) as told:
        asyncio.run(call())
    assert told.value.field == field
