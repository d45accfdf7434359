"""A gateway with more calls than it takes: who waits, who is refused and what they are told; who watches its health."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from services.gateway.servicer import NAME
from services.rpc.server import MAX_STREAMS
from services.rpc.settings import InvalidSettingError
from tests.services.gateway_fakes import Gateway, eventually, gateway, search

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def retry_delay(error: grpc.aio.AioRpcError) -> Duration:
    """The google.rpc.RetryInfo of an error."""
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    return info.retry_delay


async def refused(call: object) -> grpc.aio.AioRpcError:
    """The RESOURCE_EXHAUSTED a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return caught.value


async def busy(gw: Gateway, calls: int) -> list[asyncio.Task[pb.RankResponse]]:
    """So many calls that run until the models answer."""
    gw.models.hung.add("trees")
    running = [asyncio.create_task(gw.rank(search(3))) for _ in range(calls)]
    await eventually(lambda: gw.server.load()[NAME].running == calls)
    return running


async def test_a_call_waits_for_its_turn_and_is_answered(home: Path) -> None:
    """One runs, one waits; both are answered once the models are."""
    async with gateway(home, max_concurrent_rpcs=1, queue_ms=60_000.0, budget_ms=60_000.0) as gw:
        (running,) = await busy(gw, 1)
        queued = asyncio.create_task(gw.rank(search(4)))
        await eventually(lambda: gw.server.load()[NAME].waiting == 1)
        gw.models.release.set()
        assert (len((await running).results.item_ids), len((await queued).results.item_ids)) == (3, 4)
        assert (gw.server.load()[NAME].running, gw.server.load()[NAME].waiting) == (0, 0)


async def test_a_wait_that_is_over_ends_with_when_to_come_back(home: Path) -> None:
    """The one that runs does not end within the queue's bound: RESOURCE_EXHAUSTED with a RetryInfo, and the process counts it."""
    async with gateway(home, max_concurrent_rpcs=1, queue_ms=20.0, budget_ms=60_000.0) as gw:
        (running,) = await busy(gw, 1)
        error = await refused(gw.rank(search(3)))
        assert 0 < retry_delay(error).ToMilliseconds() <= 10_000
        assert gw.server.load()[NAME].refused == 1
        gw.models.release.set()
        await running


async def test_a_caller_who_leaves_the_queue_takes_no_place(home: Path) -> None:
    """Cancelled while waiting: the queue is empty, and the next call is answered."""
    async with gateway(home, max_concurrent_rpcs=1, queue_ms=60_000.0, budget_ms=60_000.0) as gw:
        (running,) = await busy(gw, 1)
        queued = RankingServiceStub(gw.channel).Rank(search(3))
        await eventually(lambda: gw.server.load()[NAME].waiting == 1)
        queued.cancel()
        await eventually(lambda: gw.server.load()[NAME].waiting == 0)
        gw.models.release.set()
        await running
        assert len((await gw.rank(search(3))).results.item_ids) == 3


async def test_a_message_is_not_parsed_before_its_call_is_let_in(home: Path) -> None:
    """Bytes that are no message are RESOURCE_EXHAUSTED while there is no room, and INVALID_ARGUMENT once there is."""
    async with gateway(home, max_concurrent_rpcs=1, queue_calls=0, budget_ms=60_000.0) as gw:
        (running,) = await busy(gw, 1)
        garbage = gw.channel.unary_unary(f"/{NAME}/Rank")
        await refused(garbage(b"\xff\xff"))
        gw.models.release.set()
        await running
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await garbage(b"\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_callers_have_their_own_limits_and_health_has_none(home: Path, tmp_path: Path) -> None:
    """`x-caller` names who is limited; who says nothing is known by address; Check and reflection are never refused."""
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({"default": {"calls_per_s": 0.001, "burst": 1}, "callers": {"shop": {"calls_per_s": 0.001, "burst": 2}}}))
    async with gateway(home, caller_limits=str(limits)) as gw:
        stub = RankingServiceStub(gw.channel)
        for _ in range(2):
            await stub.Rank(search(3), metadata=(("x-caller", "shop"),))
        error = await refused(stub.Rank(search(3), metadata=(("x-caller", "shop"),)))
        assert "caller 'shop' is limited to 0.001 calls per second" in (error.details() or "")
        assert retry_delay(error).ToSeconds() in (999, 1000)
        await stub.Rank(search(3))
        assert "caller '127.0.0.1'" in ((await refused(stub.Rank(search(3)))).details() or "")
        health = health_pb2_grpc.HealthStub(gw.channel)
        for _ in range(5):
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING


async def test_limits_that_cannot_be_read_keep_the_gateway_from_starting(home: Path, tmp_path: Path) -> None:
    """An unknown key is named."""
    limits = tmp_path / "limits.json"
    limits.write_text('{"callers": {"shop": {"rate": 1}}}')
    with pytest.raises(InvalidSettingError, match=r"callers\.shop\.rate: is not known"):
        async with gateway(home, caller_limits=str(limits)):
            pass


async def test_watchers_are_bounded(home: Path) -> None:
    """The third of two is refused with a RetryInfo; one that leaves makes room."""
    async with gateway(home, max_watchers=2) as gw:
        stub = health_pb2_grpc.HealthStub(gw.channel)
        streams = [stub.Watch(health_pb2.HealthCheckRequest(service=NAME)) for _ in range(2)]
        for stream in streams:
            assert (await stream.read()).status == SERVING
        error = await refused(stub.Watch(health_pb2.HealthCheckRequest()).read())
        assert retry_delay(error).ToSeconds() == 5
        streams[0].cancel()

        async def watches() -> bool:
            try:
                return (await stub.Watch(health_pb2.HealthCheckRequest()).read()).status == SERVING
            except grpc.aio.AioRpcError:
                return False

        await eventually(watches)


async def test_a_watcher_that_leaves_does_not_make_the_others_deaf(home: Path) -> None:
    """Of two watchers of one service one leaves; the other hears of the drain, and its stream does not hold up the stop."""
    async with gateway(home, drain_s=0.0, grace_s=60.0) as gw:
        stub = health_pb2_grpc.HealthStub(gw.channel)
        gone, stays = (stub.Watch(health_pb2.HealthCheckRequest(service=NAME)) for _ in range(2))
        assert [(await stream.read()).status for stream in (gone, stays)] == [SERVING, SERVING]
        gone.cancel()
        await stub.Check(health_pb2.HealthCheckRequest())  # by now the server knows
        stopping = asyncio.create_task(gw.server.stop())
        assert (await stays.read()).status == NOT_SERVING
        assert await stays.read() is grpc.aio.EOF
        await stopping  # not after a minute of grace: the test's own timeout is shorter with what else there is


async def test_an_unknown_service_is_watched_as_unknown(home: Path) -> None:
    """As grpc.health.v1 says: SERVICE_UNKNOWN, and the stream stays."""
    async with gateway(home) as gw:
        stream = health_pb2_grpc.HealthStub(gw.channel).Watch(health_pb2.HealthCheckRequest(service="no.such.Service"))
        assert (await stream.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        stream.cancel()


@pytest.mark.parametrize(("calls", "streams"), [(8, MAX_STREAMS), (3000, 3100)])
async def test_calls_of_one_connection_are_bounded(home: Path, calls: int, streams: int) -> None:
    """What the server's first frame says to whoever connects (RFC 9113, section 6.5): so many, or as many as run and wait in all."""
    async with gateway(home, max_concurrent_rpcs=calls, queue_calls=100) as gw:
        host, _, port = gw.server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))  # the preface and no settings of our own
        head = await reader.readexactly(9)
        assert head[3] == 4
        told = dict(struct.iter_unpack("!HI", await reader.readexactly(int.from_bytes(head[:3]))))
        writer.close()
        assert told[3] == streams
