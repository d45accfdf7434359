"""Feast's own parts are damaged, killed or hang under load: lists are ranked on what is known, else on defaults, and say so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from ranking.layout import Layout
from services.feature_store.feast import FeastStore
from services.gateway.server import running
from services.gateway.settings import Settings
from tests.deploy.releases import build_release
from tests.services import feast_home
from tests.services.gateway_fakes import FakeModels, activate, eventually, reasons
from tests.services.proxy import proxied
from tests.services.redis_server import RedisServer
from tests.services.traffic import Traffic, traffic

pytestmark = pytest.mark.servers


@asynccontextmanager
async def ranking(home: Path, **options: Any) -> AsyncIterator[Traffic]:
    """Load on a gateway over Feast; every list's user is read anew."""
    build_release(Layout(home).releases, "r1", 1)
    activate(home, "r1")
    fixed = {
        "address": "127.0.0.1:0",
        "metrics_address": "off",
        "served_log": False,
        "drain_s": 0.0,
        "user_ttl_s": 0.0,
        "budget_ms": 2000.0,
    }
    store = FeastStore(feast_home.REPO, home)
    settings = Settings(home=home, feature_repo=feast_home.REPO, **(fixed | options))
    async with (
        running(settings, store=store, models=FakeModels()) as server,
        grpc.aio.insecure_channel(server.address) as channel,
        traffic(channel, clients=2) as seen,
    ):
        yield seen
    seen.ranked()


async def test_a_registry_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overwritten while it is in use, and for a gateway that only starts: lists are ranked; mended, the store is read again."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    await asyncio.to_thread(feast_home.apply, tmp_path)
    registry = tmp_path / "feast" / "registry.db"
    whole = registry.read_bytes()
    async with ranking(tmp_path) as seen:
        await seen.more()
        registry.write_bytes(b"\xff" * len(whole))
        await seen.more()
    await asyncio.to_thread(_without_release, tmp_path)
    async with ranking(tmp_path) as seen:
        await eventually(lambda: any(reasons(a).get("features:user") in ("UNAVAILABLE", "ERROR") for a in seen.answers) or seen.failures)
        registry.write_bytes(whole)
        await _read_again(seen)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", ["killed", "hangs"])
async def test_a_redis_of_features(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Declared defaults take the place of what cannot be read, in time; once Redis is back it is read again."""
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        async with proxied(f"127.0.0.1:{redis.port}") as proxy:
            for name, value in (feast_home.redis_environment(f"redis://{proxy.address}/0") | {"LONGTAIL_HOME": str(tmp_path)}).items():
                monkeypatch.setenv(name, value)
            await asyncio.to_thread(feast_home.apply, tmp_path, {"LONGTAIL_HOME": str(tmp_path)})
            async with ranking(tmp_path) as seen:
                await _read_again(seen)
                if fault == "killed":
                    await asyncio.to_thread(redis.kill)
                else:
                    proxy.hold()
                await eventually(lambda: reasons(seen.answers[-1]).get("features:user") in ("UNAVAILABLE", "DEADLINE") or seen.failures)
                await seen.more(4)
                if fault == "killed":
                    await asyncio.to_thread(redis.start)
                else:
                    proxy.release()
                so_far = len(seen.answers)
                await eventually(
                    lambda: any(reasons(a).get("features:user") == "NOT_FOUND" for a in seen.answers[so_far:]) or seen.failures
                )
    finally:
        redis.kill()


async def _read_again(seen: Traffic) -> None:
    """Return once an answer to come says that the store was asked and has nothing, as none was put there."""
    so_far = len(seen.answers)
    await eventually(lambda: any(reasons(a).get("features:user") == "NOT_FOUND" for a in seen.answers[so_far:]) or seen.failures)


def _without_release(home: Path) -> None:
    import shutil

    shutil.rmtree(Layout(home).releases)
