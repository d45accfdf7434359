"""What a client is given wrongly is an error with the field's name, before anything is sent."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from ranking.errors import InvalidField
from ranking.features import Entity
from ranking.types import Surface
from services.client import aio
from services.client.client import RankingClient, event, rank_request
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


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("item_ids", {"item_ids": "abc"}),
        ("item_ids", {"item_ids": b"abc"}),
        ("item_ids", {"item_ids": {"a": 1}}),
        ("item_ids", {"item_ids": 7}),
        ("item_ids[1]", {"item_ids": ["a", 7]}),
        ("item_ids[0]", {"item_ids": ["\ud800", "b"]}),
        ("retrieval_scores", {"retrieval_scores": "0.5"}),
        ("retrieval_scores[1]", {"retrieval_scores": [0.5, "0.5"]}),
        ("retrieval_scores[0]", {"retrieval_scores": [True, 0.5]}),
        ("bid_micros", {"bid_micros": "12"}),
        ("bid_micros[0]", {"bid_micros": [0.5, 1]}),
        ("bid_micros[1]", {"bid_micros": [1, 2**63]}),
        ("columns", {"columns": ["ads_on_display"]}),
        ("columns", {"columns": {7: [1.0, 2.0]}}),
        ("columns['on_display']", {"columns": {"on_display": "12"}}),
        ("columns['on_display'][1]", {"columns": {"on_display": [1.0, None]}}),
        ("surface", {"surface": "ads"}),
        ("explain", {"explain": "scores"}),
        ("user_id", {"user_id": 900}),
        ("query", {"query": "\ud800"}),
        ("top_k", {"top_k": "10"}),
        ("top_k", {"top_k": 2**31}),
        ("opted_out", {"opted_out": "no"}),
    ],
)
def test_rank_names_what_is_wrong(field: str, wrong: dict[str, Any]) -> None:
    """One text where several are wanted is not its letters; what no message can carry is told by field and place."""
    given: dict[str, Any] = {"surface": Surface.ADS, "item_ids": ["a", "b"]}
    with pytest.raises(InvalidField) as told:
        rank_request(**(given | wrong))
    assert told.value.field == field


def test_arrays_and_iterables_are_lists() -> None:
    """Numbers of numpy, tuples, whatever can be gone through once."""
    request = rank_request(
        Surface.ADS,
        iter(["a", "ü"]),  # type: ignore[arg-type]
        retrieval_scores=np.array([0.5, 0.25], np.float32),  # type: ignore[arg-type]
        bid_micros=[np.int64(3), 4],
        columns={"on_display": (np.float32(1.0), 0)},
        top_k=2,
    )
    sent = request.candidates
    assert (list(sent.item_ids), list(sent.retrieval_scores), list(sent.bid_micros)) == (["a", "ü"], [0.5, 0.25], [3, 4])
    assert [(c.name, list(c.values)) for c in sent.columns] == [("on_display", [1.0, 0.0])]


@pytest.mark.parametrize(("field", "requests"), [("requests[0]", ["x"]), ("requests", rank_request(Surface.ADS, ["1"])), ("requests", "x")])
def test_a_batch_takes_requests(field: str, requests: Any) -> None:
    """No texts, and not one request alone; of both clients."""
    with RankingClient(NOWHERE, timeout_s=1.0) as client, pytest.raises(InvalidField) as told:
        client.batch_rank(requests)
    assert told.value.field == field

    async def call() -> None:
        async with aio.RankingClient(NOWHERE, timeout_s=1.0) as client:
            await client.batch_rank(requests)

    with pytest.raises(InvalidField) as told:
        asyncio.run(call())
    assert told.value.field == field


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
