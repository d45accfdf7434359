"""Fixtures of the services' tests: a gateway over fakes, a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from ranking.layout import Layout
from tests.deploy.releases import build_release
from tests.services.gateway_fakes import Gateway, activate, gateway
from tests.services.redis_server import RedisServer


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory with release `r1` active."""
    build_release(Layout(tmp_path).releases, "r1", 1)
    activate(tmp_path, "r1")
    return tmp_path


@pytest.fixture
async def gw(home: Path) -> AsyncIterator[Gateway]:
    """A gateway over fakes that serves `r1`."""
    async with gateway(home) as running:
        yield running


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url
