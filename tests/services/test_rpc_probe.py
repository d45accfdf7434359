"""The probe of container health checks, against a gateway."""

from __future__ import annotations

import asyncio

import pytest

from services.rpc import probe
from tests.services.gateway_fakes import Gateway


async def test_a_serving_gateway_passes(gw: Gateway) -> None:
    """As a whole and by service; a service it has not does not."""
    address = gw.server.address
    assert await asyncio.to_thread(probe.main, [address]) == 0
    assert await asyncio.to_thread(probe.main, [address, "longtail.ranking.v1.RankingService"]) == 0
    assert await asyncio.to_thread(probe.serving, address, "nobody") == "NOT_FOUND"
    await gw.server.set_serving(serving=False)
    assert await asyncio.to_thread(probe.serving, address) == "NOT_SERVING"


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody listens it fails and says why."""
    assert probe.main(["127.0.0.1:1"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().err
    assert probe.main([]) == 2
