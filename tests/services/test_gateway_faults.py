"""What stands behind a gateway is killed, hangs, is damaged or fills up under load: every list is ranked, and what was missing returns."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from deploy import lifecycle
from ranking.layout import Layout
from services.bench.soak import CONFIG
from services.feedback.log.redis import RedisLog
from services.gateway import served, server
from tests.deploy.releases import build_release
from tests.deploy.servers import running_triton
from tests.services.gateway_fakes import activate, add_policy, eventually, floors, gateway
from tests.services.proxy import proxied
from tests.services.redis_server import RedisServer
from tests.services.traffic import traffic

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.servers
async def test_a_triton_that_hangs(tmp_path: Path) -> None:
    """Triton takes requests and answers none: members are left out when the budget is spent; it wakes, and lists are whole again."""
    layout = Layout(tmp_path)
    build_release(layout.releases, "r1", 1)
    with running_triton(layout) as triton:
        await asyncio.to_thread(lifecycle.activate, layout, "r1", triton.address)
        async with (
            proxied(triton.address) as proxy,
            gateway(tmp_path, triton=proxy.address, budget_ms=4000, triton_timeout_s=4) as gw,
            traffic(gw.channel) as seen,
        ):
            await seen.whole()
            proxy.hold()
            await seen.seen("member:trees")
            await seen.more(4)
            proxy.release()
            await seen.whole()
        seen.ranked()


@pytest.mark.servers
@pytest.mark.parametrize("fault", ["killed", "hangs"])
async def test_a_redis_of_exposure_and_events(home: Path, tmp_path_factory: pytest.TempPathFactory, fault: str) -> None:
    """Lists go on with accounts of the gateway's own; events are refused, none that was acknowledged is lost, and both come back."""
    add_policy(home, "owed", rules=floors("popularity_tier", tail=0.3), scope="amortised")
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        async with proxied(f"127.0.0.1:{redis.port}") as proxy:
            url = f"redis://{proxy.address}/0"
            async with (
                gateway(home, ledger=url, event_log=url, ledger_sync_s=0.05, ledger_wait_s=1.0, event_wait_s=1.0) as gw,
                traffic(gw.channel, events=True) as seen,
            ):
                await seen.recorded()
                await seen.whole()
                if fault == "killed":
                    await asyncio.to_thread(redis.kill)
                else:
                    proxy.hold()
                await eventually(lambda: seen.refused)
                await seen.seen("exposure")
                await seen.more()
                if fault == "killed":
                    await asyncio.to_thread(redis.start)
                else:
                    proxy.release()
                await seen.recorded()
                await seen.whole()
            seen.ranked()
            assert {e.code() for e in seen.refused} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
        log = RedisLog(redis.url, timeout_s=30.0)
        kept = await asyncio.to_thread(lambda: [row.event.event_id for row in log.read(0, 1_000_000)])
        await asyncio.to_thread(log.close)
        assert seen.acknowledged <= set(kept)
        assert len(kept) == len(set(kept))
    finally:
        redis.kill()


async def test_the_release_store_is_away(home: Path) -> None:
    """Its mount is gone: the release that is loaded goes on; it returns with another release active, and that is followed."""
    layout = Layout(home)
    async with gateway(home) as gw, traffic(gw.channel) as seen:
        await seen.more()
        away = layout.releases.rename(home / "away")
        await seen.more()
        away.rename(layout.releases)
        build_release(layout.releases, "r2", 2)
        activate(home, "r2")
        await eventually(lambda: seen.answers[-1].release == "r2" or seen.failures)
    seen.ranked()
    assert {a.release for a in seen.answers} == {"r1", "r2"}


@pytest.mark.parametrize("jump_s", [-86400.0 * 365, 86400.0 * 365])
async def test_the_clock_jumps(home: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """A year either way: deadlines, caches and the log go by the monotonic clock, and the exposure's store by none that breaks it."""
    add_policy(home, "owed", rules=floors("popularity_tier", tail=0.3), scope="amortised")
    offset, now = [0.0], time.time
    monkeypatch.setattr(server, "_clock", lambda _: lambda: now() + offset[0])
    monkeypatch.setattr(time, "time", lambda: now() + offset[0])
    # A client reckons its deadlines by the wall clock, and this one's is the gateway's: it has none.
    async with gateway(home, ledger_sync_s=0.02, served_s=0.05) as gw, traffic(gw.channel, events=True, deadline_s=None) as seen:
        await seen.recorded()
        await seen.more()
        offset[0] = jump_s
        files = len(list(gw.layout.served.glob("*.parquet")))
        await seen.more(20)
        await eventually(lambda: len(list(gw.layout.served.glob("*.parquet"))) > files)
    seen.ranked()


async def test_a_full_disk_for_what_was_served(home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Files of served lists cannot be written: lists are ranked, the loss is logged, and files come again once there is room."""
    write: Callable[..., Any] = served.pq.write_table
    full = True

    def refused(*table: Any, **options: Any) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(*table, **options)

    monkeypatch.setattr(served.pq, "write_table", refused)
    async with gateway(home, served_s=0.02) as gw, traffic(gw.channel) as seen:
        await eventually(lambda: "served_log_failed" in caplog.messages)
        await seen.more()
        assert not list(gw.layout.served.glob("*"))
        full = False
        await eventually(lambda: list(gw.layout.served.glob("*.parquet")))
    seen.ranked()


@pytest.mark.servers
async def test_a_killed_gateway_and_a_full_disk_for_its_log(home: Path) -> None:
    """Alone, it is started again on its port by its supervisor, and a client that waits and repeats sees no failure; its log is full."""
    layout = Layout(home)
    options = [
        "--home",
        str(home),
        "--address",
        f"127.0.0.1:{_free_port()}",
        "--metrics-address",
        "off",
        "--triton",
        "127.0.0.1:1",
        "--log-level",
        "DEBUG",
    ]
    full = os.open("/dev/full", os.O_WRONLY)
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.supervise", "tests.services.gateway_process", *options, cwd=ROOT, stdout=full, stderr=full
    )
    os.close(full)
    try:
        told = layout.run / "gateway.json"

        def said() -> dict[str, Any]:
            try:
                return dict(json.loads(told.read_text()))
            except FileNotFoundError:
                return {}

        await eventually(lambda: said().get("ready"))
        first = said()
        async with (
            grpc.aio.insecure_channel(first["address"], options=[("grpc.service_config", CONFIG)]) as channel,
            traffic(channel) as seen,
        ):
            await seen.more()
            os.kill(first["pid"], signal.SIGKILL)
            await eventually(lambda: said().get("ready") and said()["pid"] != first["pid"])
            await seen.more()
            assert said()["address"] == first["address"]
        seen.ranked()
    finally:
        running.terminate()
        await running.wait()


def _free_port() -> int:
    from deploy.triton.process import free_port

    return free_port()
