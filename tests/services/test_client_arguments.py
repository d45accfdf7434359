"""What a client is given wrongly is an error with the field's name, before anything is sent."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from ranking.errors import InvalidField
from ranking.features import Entity
from ranking.types import Surface
from services.client import aio
from services.client.channel import Tls
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
        *(("max_age_s", {"max_age_s": age}) for age in (math.nan, math.inf, 1e30, 10**400, "x", True)),
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
        ("retrieval_scores[1]", {"retrieval_scores": [0.5, 10**400]}),
        ("retrieval_scores", {"retrieval_scores": np.array([[0.5, 0.25]])}),
        ("item_ids", {"item_ids": np.array("ab")}),
        ("columns['on_display'][0]", {"columns": {"on_display": [-(10**5000), 1]}}),
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


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("quantity", {"quantity": 10**400}),
        ("rating", {"rating": -(10**5000)}),
        ("value_micros", {"value_micros": 10**5000}),
        ("event_time", {"event_time": 0}),
        ("event_time", {"event_time": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}),
    ],
)
def test_a_number_or_time_of_an_event_can_be_sent(field: str, wrong: dict[str, Any]) -> None:
    """What is false is not what was left out, and what has no place on the wire is told by its field."""
    with pytest.raises(InvalidField) as told:
        event(EventType.CLICK, "1", **wrong)
    assert told.value.field == field


@pytest.mark.parametrize("kind", [RankingClient, aio.RankingClient])
@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(("timeout_s", {"timeout_s": s}) for s in (0, -1, math.nan, math.inf, True, "1", 10**10, 1e300, 10**400)),
        *(("token", {"token": token}) for token in ("lt_a_secret\n", "lt a secret", "secrét", 5, b"secret", None)),
        *(("address", {"address": address}) for address in (None, 50051, "\ud800")),
        ("tls", {"tls": "ca.pem"}),
    ],
)
def test_a_client_names_what_is_wrong(kind: type[RankingClient | aio.RankingClient], field: str, wrong: dict[str, Any]) -> None:
    """A deadline that gRPC would take as passed, a token with its file's line end: told at once, and without the secret."""
    given: dict[str, Any] = {"address": NOWHERE, "timeout_s": 1.0}

    async def make() -> None:
        kind(**(given | wrong))

    with pytest.raises(InvalidField) as told:
        asyncio.run(make())
    assert told.value.field == field
    assert "secr" not in str(told.value)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("tls.key", {"certificate": b"x"}),
        ("tls.certificate", {"key": b"x"}),
        ("tls.authority", {"authority": "ca.pem"}),
        ("tls.authority", {"authority": b""}),
        ("tls.key", {"certificate": b"x", "key": b""}),
    ],
)
def test_half_a_pair_is_refused(field: str, wrong: dict[str, Any]) -> None:
    """gRPC would abort the process over a certificate without its key."""
    with pytest.raises(InvalidField) as told:
        Tls(**wrong)
    assert told.value.field == field


@pytest.mark.parametrize("request_", [None, {}, "x"])
def test_rank_takes_a_request(request_: Any) -> None:
    """Of both clients; else the error were INTERNAL, as if the gateway's."""
    with RankingClient(NOWHERE, timeout_s=1.0) as client, pytest.raises(InvalidField, match="RankRequest"):
        client.rank(request_)

    async def call() -> None:
        async with aio.RankingClient(NOWHERE, timeout_s=1.0) as client:
            await client.rank(request_)

    with pytest.raises(InvalidField, match="RankRequest"):
        asyncio.run(call())
