"""The process: health, reflection, start and stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from ranking.layout import Layout
from services.gateway.features import Features
from services.gateway.servicer import NAME
from services.rpc.ports import PortTakenError
from tests.services.gateway_fakes import Gateway, eventually, gateway, search

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def process(home: Path, *options: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m services.gateway` on a free port; killed if the test leaves it running."""
    running = subprocess.Popen(
        [sys.executable, "-m", "services.gateway", "--address", "127.0.0.1:0", "--drain-s", "0", "--score-cache", "10000", *options],
        cwd=ROOT,
        env=os.environ | {"LONGTAIL_HOME": str(home)} | environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        assert running.stderr is not None
        running.stderr.close()


async def status(home: Path, running: subprocess.Popen[str], *, ready: bool) -> dict[str, Any]:
    """The content of run/gateway.json once it says `ready`."""
    path = Layout(home).run / "gateway.json"
    while running.poll() is None:
        if path.exists() and (found := json.loads(path.read_text()))["ready"] is ready:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"the gateway ended with {running.returncode}")


async def test_a_client_that_has_only_reflection_can_call(gw: Gateway) -> None:
    """Services, messages and a call are found through reflection alone, with plain blocking grpcio."""

    def call() -> dict[str, Any]:
        with grpc.insecure_channel(gw.server.address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            assert {NAME, "grpc.health.v1.Health"} <= set(database.get_services())
            pool = DescriptorPool(database)
            method = pool.FindServiceByName(NAME).FindMethodByName("Rank")
            ask, answer = (message_factory.GetMessageClass(t) for t in (method.input_type, method.output_type))
            rank = channel.unary_unary(f"/{NAME}/Rank", request_serializer=ask.SerializeToString, response_deserializer=answer.FromString)
            request = json_format.ParseDict({"surface": "SURFACE_SEARCH", "candidates": {"itemIds": ["i1", "i2"]}}, ask())
            return json_format.MessageToDict(rank(request))

    answer = await asyncio.to_thread(call)
    assert sorted(answer["results"]["itemIds"]) == ["i1", "i2"]


async def test_health_is_per_service(gw: Gateway) -> None:
    """The server and RankingService serve; a service nobody registered is NOT_FOUND."""
    stub = health_pb2_grpc.HealthStub(gw.channel)
    for service in ("", NAME):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_calls_over_the_limit_are_refused_and_health_still_answers(home: Path) -> None:
    """With a limit of two the third Rank is RESOURCE_EXHAUSTED, health is not, and a finished call frees its place."""
    async with gateway(home, max_concurrent_rpcs=2, queue_calls=0, budget_ms=60_000.0) as gw:
        gw.models.hung.add("trees")
        under_way = [asyncio.create_task(gw.rank(search(3))) for _ in range(2)]
        await eventually(lambda: len([name for name, _, _ in gw.models.calls if name == "trees"]) == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.rank(search(3))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "already answers 2 calls" in (caught.value.details() or "")
        answer = await health_pb2_grpc.HealthStub(gw.channel).Check(health_pb2.HealthCheckRequest(service=NAME))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        gw.models.release.set()
        await asyncio.gather(*under_way)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await gw.rank(search(0))
            assert len((await gw.rank(search(3))).results.item_ids) == 3


async def test_idle_watchers_do_not_use_up_the_limit(home: Path) -> None:
    """Ten open Watch streams, five times the limit, leave Rank and Check as they were."""
    async with gateway(home, max_concurrent_rpcs=2) as gw:
        stub = health_pb2_grpc.HealthStub(gw.channel)
        watching = [stub.Watch(health_pb2.HealthCheckRequest(service=f"{NAME}{i}")) for i in range(10)]
        for stream in watching:
            await stream.read()
        assert len((await gw.rank(search(3))).results.item_ids) == 3
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        for stream in watching:
            stream.cancel()


async def test_a_stopping_gateway_says_so_and_finishes_what_it_began(home: Path) -> None:
    """While draining: NOT_SERVING, calls under way are answered, and a release switch cannot turn health back on."""
    async with gateway(home, drain_s=0.3) as gw:
        gw.models.hung.add("trees")
        under_way = asyncio.create_task(gw.rank(search(3)))
        await eventually(lambda: gw.models.calls)
        stopping = asyncio.create_task(gw.server.stop())
        await asyncio.sleep(0.05)
        stub = health_pb2_grpc.HealthStub(gw.channel)
        for _ in range(2):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=NAME))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            await gw.server.set_serving(serving=True)
        gw.models.release.set()
        assert len((await under_way).results.item_ids) == 3
        await stopping


async def test_a_start_that_fails_half_way_leaves_nothing_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure after the port was bound frees the port, closes what was opened and removes the status file."""
    closed = []
    close = Features.close

    async def broken(_: Features) -> None:
        raise ZeroDivisionError

    async def noted(self: Features) -> None:
        closed.append(self)
        await close(self)

    async with gateway(home) as gw:
        address = gw.server.address
    with monkeypatch.context() as patch:
        patch.setattr(Features, "warm", broken)
        patch.setattr(Features, "close", noted)
        with pytest.raises(ZeroDivisionError):
            async with gateway(home, address=address):
                pass
    assert len(closed) == 1
    assert not (Layout(home).run / "gateway.json").exists()
    async with gateway(home, address=address) as gw:
        assert len((await gw.rank(search(3))).results.item_ids) == 3


async def test_a_taken_port_leaves_the_status_file_of_its_owner(home: Path) -> None:
    """A second gateway on the same state directory and port fails without removing what the first one wrote."""
    async with gateway(home) as gw:
        with pytest.raises(PortTakenError):
            async with gateway(home, address=gw.server.address):
                pass
        assert json.loads((Layout(home).run / "gateway.json").read_text())["address"] == gw.server.address


@pytest.mark.servers
async def test_the_process_serves_and_stops_on_sigterm(home: Path) -> None:
    """It writes where it listens, answers although Triton and Feast are absent, and SIGTERM ends it with 0 and no status file left."""
    with process(home, "--triton", "127.0.0.1:1") as running:
        found = await status(home, running, ready=True)
        assert found["pid"] == running.pid
        async with grpc.aio.insecure_channel(found["address"]) as channel:
            client = Gateway(None, channel, None, None, Layout(home))  # type: ignore[arg-type]
            answer = await client.rank(search(3))
        assert sorted(answer.results.candidate_indices) == [0, 1, 2]
        assert {d.component for d in answer.degradations} >= {"member:trees", "features:user", "features:item", "blend"}
        running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.wait) == 0
        assert not (Layout(home).run / "gateway.json").exists()


@pytest.mark.servers
async def test_a_taken_port_is_named_and_nothing_is_served_beside_it(home: Path, tmp_path: Path) -> None:
    """The second gateway on a port ends with 2 and one sentence; with reuse_port both run."""
    with process(home, "--reuse-port", "true") as first:
        address = (await status(home, first, ready=True))["address"]
        with process(tmp_path / "other", "--address", address) as second:
            assert await asyncio.to_thread(second.wait) == 2
            assert second.stderr is not None
            assert f"gateway: cannot listen on {address}" in second.stderr.read()
        with process(tmp_path / "third", "--address", address, "--reuse-port", "true") as third:
            assert (await status(tmp_path / "third", third, ready=False))["address"] == address


@pytest.mark.servers
async def test_the_gateway_starts_without_training_libraries(home: Path, tmp_path: Path) -> None:
    """torch, transformers, ray and imblearn are not needed: with all four unimportable the process serves, Feast loaded."""
    blocker = tmp_path / "without" / "sitecustomize.py"
    blocker.parent.mkdir()
    names = ("torch", "transformers", "ray", "imblearn", "sklearn")
    blocker.write_text(f"import sys\nsys.modules.update(dict.fromkeys({names!r}))\n")  # None in sys.modules: ImportError
    with process(home, "--triton", "127.0.0.1:1", PYTHONPATH=str(blocker.parent)) as running:
        found = await status(home, running, ready=True)
        async with grpc.aio.insecure_channel(found["address"]) as channel:
            client = Gateway(None, channel, None, None, Layout(home))  # type: ignore[arg-type]
            answer = await client.rank(search(3))
        details = {d.component: d.detail for d in answer.degradations}
        assert "ModuleNotFoundError" not in details["features:user"]
        assert "ImportError" not in details["features:user"]
