"""FeedbackService as the gateway serves it: durable answers, clear failures, and ranking that does not notice."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub

from ranking.errors import InvalidField
from ranking.layout import Layout
from ranking.types import Surface
from services.client.client import RankingClient, event
from services.feedback.log.redis import RedisLog
from services.feedback.log.sqlite import SqliteLog
from services.feedback.servicer import NAME
from services.feedback.types import EventType
from services.gateway.servicer import NAME as RANKING
from tests.services.feedback.fakes import Place, message
from tests.services.gateway_fakes import Gateway, bad_request, eventually, gateway, search
from tests.suites.event_log import everything


async def record(gw: Gateway, *events: pb.Event, timeout: float | None = None) -> pb.RecordEventsResponse:  # noqa: ASYNC109
    return await FeedbackServiceStub(gw.channel).RecordEvents(pb.RecordEventsRequest(events=events), timeout=timeout)


async def refused(gw: Gateway, *events: pb.Event, timeout: float | None = None) -> grpc.aio.AioRpcError:  # noqa: ASYNC109
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await record(gw, *events, timeout=timeout)
    return caught.value


async def test_what_is_answered_is_in_the_log(gw: Gateway) -> None:
    """The default log is events.db under the state directory; counts add up to the batch, and another process reads the events."""
    answer = await record(gw, message("a"), message("b"), message("a"), message("", item_id=""), message("b", item_id="other"))
    assert (answer.accepted, answer.duplicates) == (2, 1)
    assert [(r.index, r.field) for r in answer.rejected] == [(3, "event_id"), (4, "event_id")]
    log = SqliteLog(gw.layout.events)
    assert [one.event_id for one in everything(log)] == ["a", "b"]
    log.close()


async def test_nothing_valid_is_an_error_with_fields(gw: Gateway) -> None:
    """INVALID_ARGUMENT with google.rpc.BadRequest naming events[i].field; also for a batch that is empty or too long."""
    error = await refused(gw, message("a", position=-1), message("b", quantity=-1.0))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(bad_request(error)) == {"events[0].position", "events[1].quantity"}
    for n in (0, 1001):
        error = await refused(gw, *(message(str(i)) for i in range(n)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "events" in bad_request(error)
    error = await refused(gw, *(message(str(i), item_id="") for i in range(1000)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_forgotten_user_is_told_of(home: Path) -> None:
    """Their events are rejected by the field user_id, the others of the batch are stored."""
    log = SqliteLog(Layout(home).events)
    log.forget(["ann"])
    log.close()
    async with gateway(home) as gw:
        answer = await record(gw, message("a", user_id="ann"), message("b", user_id="bob"))
    assert answer.accepted == 1
    assert [(r.index, r.field) for r in answer.rejected] == [(0, "user_id")]


async def test_it_is_found_by_reflection_and_its_health_needs_no_release(tmp_path: Path) -> None:
    """Without any release ranking is NOT_SERVING, feedback is SERVING and works."""
    async with gateway(tmp_path) as gw:

        def services() -> list[str]:
            with grpc.insecure_channel(gw.server.address) as channel:
                return list(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert {NAME, RANKING} <= set(await asyncio.to_thread(services))
        stub = health_pb2_grpc.HealthStub(gw.channel)
        said = {name: (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in (NAME, RANKING)}
        assert said == {NAME: health_pb2.HealthCheckResponse.SERVING, RANKING: health_pb2.HealthCheckResponse.NOT_SERVING}
        assert (await record(gw, message())).accepted == 1


async def test_a_log_that_is_down_is_unavailable_and_ranking_goes_on(home: Path) -> None:
    """The error names the file, nothing is acknowledged, Rank answers; mended, the same events are taken."""
    Layout(home).events.write_bytes(b"not a database" * 100)
    async with gateway(home) as gw:
        error = await refused(gw, message("a"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "events.db: is damaged" in (error.details() or "")
        answer = await gw.rank(search(3))
        assert len(answer.results.item_ids) == 3
        assert "events" not in {d.component for d in answer.degradations}
        Layout(home).events.unlink()
        assert (await record(gw, message("a"))).accepted == 1


async def test_a_log_that_hangs_is_given_up_and_ranking_does_not_notice(home: Path) -> None:
    """More recording calls than the limit hang or are refused; Rank has a limit of its own; at last everything is stored once."""
    place = Place()
    async with gateway(home, events=place(), max_concurrent_rpcs=4, event_wait_s=60.0) as gw:
        place.hold.clear()
        calls = [asyncio.create_task(record(gw, message(str(i)))) for i in range(4)]
        await eventually(lambda: place.appends)
        await eventually(lambda: all(not call.done() for call in calls))

        async def full() -> bool:
            try:
                await record(gw, message("more"), timeout=0.05)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return False

        await eventually(full)
        for _ in range(5):
            assert len((await gw.rank(search(3))).results.item_ids) == 3
        place.hold.set()
        assert [(await call).accepted for call in calls] == [1] * 4
        await record(gw, message("more"))
        assert set(place.rows) == {"0", "1", "2", "3", "more"}


@pytest.mark.parametrize(
    ("wait_s", "deadline_s", "code"),
    [(0.05, None, grpc.StatusCode.UNAVAILABLE), (0.05, 30.0, grpc.StatusCode.UNAVAILABLE), (30.0, 0.3, grpc.StatusCode.DEADLINE_EXCEEDED)],
)
async def test_a_slow_log_has_a_clear_end(home: Path, wait_s: float, deadline_s: float | None, code: grpc.StatusCode) -> None:
    """After `event_wait_s` the call is UNAVAILABLE, at a nearer deadline DEADLINE_EXCEEDED; sent again the event counts once."""
    place = Place()
    async with gateway(home, events=place(), event_wait_s=wait_s) as gw:
        place.hold.clear()
        error = await refused(gw, message("a"), timeout=deadline_s)
        assert error.code() is code
        if code is grpc.StatusCode.UNAVAILABLE:  # a late answer of ours and the client's own end of patience look alike otherwise
            assert "event log: no answer within 0.05 s; nothing is acknowledged" in (error.details() or "")
        place.hold.set()
        await eventually(lambda: len(place.rows) == 1)
        assert (await record(gw, message("a"))).duplicates == 1


async def test_junk_on_the_wire_is_never_a_bug(gw: Gateway) -> None:
    """Random bytes, and a valid request with bytes changed, get an answer or INVALID_ARGUMENT, never INTERNAL or UNKNOWN."""
    rng = random.Random(0)
    call: Any = gw.channel.unary_unary(f"/{NAME}/RecordEvents")  # bytes in, bytes out
    good = pb.RecordEventsRequest(events=[message("a", query="q", position=1, quantity=1.0, rating=2.0)] * 2).SerializeToString()
    codes: set[grpc.StatusCode] = set()
    for i in range(400):
        sent = bytearray(good if i % 2 else rng.randbytes(rng.randrange(60)))
        for _ in range(rng.randrange(4) if sent else 0):
            sent[rng.randrange(len(sent))] = rng.randrange(256)
        try:
            pb.RecordEventsResponse.FromString(await call(bytes(sent)))
        except grpc.aio.AioRpcError as error:
            codes.add(error.code())
    assert codes == {grpc.StatusCode.INVALID_ARGUMENT}


async def test_a_stopping_gateway_stores_what_it_has_taken_on(home: Path) -> None:
    """A call under way when the gateway is told to stop is answered once its events are stored."""
    place = Place()
    async with gateway(home, events=place()) as gw:
        place.hold.clear()
        calling = asyncio.create_task(record(gw, message("a")))
        await eventually(lambda: place.appends)
        stopping = asyncio.create_task(gw.server.stop())
        await asyncio.sleep(0.05)
        place.hold.set()
        assert (await calling).accepted == 1
        await stopping
    assert set(place.rows) == {"a"}


@pytest.mark.servers
async def test_the_log_can_be_redis(home: Path, redis_url: str) -> None:
    """`event_log` names it; gateways on different state directories share it."""
    async with gateway(home, event_log=redis_url) as gw:
        assert (await record(gw, message("a"))).accepted == 1
    async with gateway(home / "other", event_log=redis_url) as gw:
        assert (await record(gw, message("a"), message("b"))).duplicates == 1
    log = RedisLog(redis_url)
    assert [one.event_id for one in everything(log)] == ["a", "b"]
    log.close()
    assert not Layout(home).events.exists()


async def test_the_typed_client_records(gw: Gateway) -> None:
    """An event it builds arrives whole, and the same one again is a duplicate."""
    when = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)
    rated = event(EventType.RATING, "i1", user_id="u", event_time=when, surface=Surface.ADS, ranking_id="r", position=2, rating=4.5)
    now = event(EventType.DISLIKE, "i2")

    def call() -> list[Any]:
        with RankingClient(gw.server.address, timeout_s=30.0) as client:
            return [client.record([rated, now]), client.record([rated])]

    first, again = await asyncio.to_thread(call)
    assert (first.accepted, again.accepted, again.duplicates) == (2, 0, 1)
    log = SqliteLog(gw.layout.events)
    one, two = everything(log)
    log.close()
    assert one.event_time_ns == int(when.timestamp() * 10) * 10**8
    assert (one.type, one.item_id, one.surface, one.ranking_id, one.position, one.rating) == ("rating", "i1", Surface.ADS, "r", 2, 4.5)
    assert (two.type, two.item_id, two.surface, two.user_id) == ("dislike", "i2", None, "")


async def test_the_clock_is_that_of_the_replayed_data(home: Path) -> None:
    """What happens now lies years ahead of it and is rejected by name; what happens then is stored."""
    async with gateway(home, as_of="2017-12-25T00:00:00+00:00") as gw:
        then = event(EventType.CLICK, "i", event_time=datetime(2017, 12, 25, 0, 5, tzinfo=UTC))
        answer = await record(gw, event(EventType.CLICK, "i"), then)
    assert answer.accepted == 1
    (wrong,) = answer.rejected
    assert (wrong.index, wrong.field) == (0, "event_time")
    assert "ahead of the server's clock, 2017-12-25T00:00:00+00:00; at most 300" in wrong.reason


@pytest.mark.parametrize(
    ("arguments", "fields", "said"),
    [
        (("click", "i"), {}, "kind: must be EventType, got 'click'"),
        ((EventType.CLICK, 901062), {}, "item_id: must be str, got 901062"),
        ((EventType.CLICK, "i"), {"user_id": None}, "user_id: must be str, got None"),
        ((EventType.CLICK, "i"), {"surface": "ads"}, "surface: must be Surface, got 'ads'"),
        ((EventType.CLICK, "i"), {"event_time": datetime(2026, 1, 2)}, "event_time: needs a time zone, got 2026-01-02T00:00:00"),  # noqa: DTZ001
        ((EventType.CLICK, "i"), {"event_time": 1.5}, "event_time: must be datetime, got 1.5"),
        ((EventType.PURCHASE, "i"), {"value_micros": 10**20}, "value_micros: 100000000000000000000 is beyond what the wire can carry"),
        ((EventType.PURCHASE, "i"), {"value_micros": 2.5}, "value_micros: must be int, got 2.5"),
        ((EventType.PURCHASE, "i"), {"position": 2**31}, "position: 2147483648 is beyond what the wire can carry"),
        ((EventType.PURCHASE, "i"), {"quantity": "2"}, "quantity: must be float or int, got '2'"),
    ],
)
def test_the_typed_client_names_what_no_event_can_have(arguments: tuple[Any, ...], fields: dict[str, Any], said: str) -> None:
    """Before anything is sent; a time without a zone would mean another instant on every machine."""
    with pytest.raises(InvalidField) as caught:
        event(*arguments, **fields)
    assert str(caught.value) == said


async def test_the_typed_client_repeats_itself_while_the_log_is_away(home: Path) -> None:
    """A log that comes back in time costs the caller nothing but time."""
    place = Place()
    place.down = True
    async with gateway(home, events=place()) as gw:

        def call() -> Any:
            with RankingClient(gw.server.address, timeout_s=30.0) as client:
                return client.record([event(EventType.CLICK, "i")], timeout_s=60.0)

        calling = asyncio.create_task(asyncio.to_thread(call))
        await eventually(lambda: len(place.appends) >= 2)
        place.down = False
        assert (await calling).accepted == 1
