"""The gateway's benchmark measures what it says."""

from __future__ import annotations

import asyncio
import sys
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.layout import Layout
from services.bench import arrivals, overload
from services.bench import gateway as bench
from services.bench.arrivals import Offered
from services.bench.load import METHOD
from services.bench.platform import QUICK, Platform
from services.bench.stubbed import cpu_s, rss_mb, stub_gateway
from services.client.throttle import Throttle
from services.gateway.servicer import NAME
from tests.services.gateway_fakes import Gateway, eventually, gateway, search

ROOT = Path(__file__).resolve().parents[2]


def left_in(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


async def test_arrivals_do_not_wait_for_answers(gw: Gateway) -> None:
    """While the first call hangs the others are sent all the same, and their time counts from when they were meant to begin."""
    gw.models.hung.add("trees")
    offering = asyncio.create_task(
        arrivals.offer(gw.server.address, METHOD, repeat(search(3).SerializeToString()), rate=100.0, seconds=0.2, seed=0)
    )
    await eventually(lambda: sum(name == "trees" for name, _, _ in gw.models.calls) > 5)
    gw.models.release.set()
    offered = await offering
    assert offered.offered == len(offered.latencies_ms) > 5
    assert pb.RankResponse.FromString(offered.answers[0]).results.item_ids


async def test_failures_are_counted_by_status(gw: Gateway) -> None:
    """Calls that are refused have no latency."""
    offered = await arrivals.offer(gw.server.address, METHOD, repeat(search(0).SerializeToString()), rate=100.0, seconds=0.1, seed=0)
    assert offered.failures == {"INVALID_ARGUMENT": offered.offered}
    assert len(offered.latencies_ms) == 0
    assert offered.quantile_ms(0.5) == float("inf")


async def test_calls_the_throttle_holds_back_are_not_sent(home: Path) -> None:
    """A gateway with room for one call, which hangs: the refusals of the first twenty hold most others back; none of them is a failure."""
    async with gateway(home, max_concurrent_rpcs=1, queue_calls=0, budget_ms=60_000.0) as gw:
        gw.models.hung.add("trees")
        running = asyncio.create_task(gw.rank(search(3)))
        await eventually(lambda: gw.server.load()[NAME].running == 1)
        payloads = repeat(search(3).SerializeToString())
        offered = await arrivals.offer(gw.server.address, METHOD, payloads, rate=200.0, seconds=1.0, seed=0, throttle=Throttle())
        assert offered.failures == {"RESOURCE_EXHAUSTED": gw.server.load()[NAME].refused}
        assert offered.held_back == offered.offered - gw.server.load()[NAME].refused > 0
        gw.models.release.set()
        await running


async def test_answers_that_are_not_whole_are_not_good(gw: Gateway) -> None:
    """A member that is gone costs an answer its worth; other degradations, as that no features can be read, do not."""
    gw.store.down = True
    payloads = repeat(search(3).SerializeToString())
    whole = await arrivals.offer(gw.server.address, METHOD, payloads, rate=50.0, seconds=0.2, seed=0, fit=overload.whole)
    assert (len(whole.latencies_ms), whole.unfit) == (whole.offered, 0)
    assert pb.RankResponse.FromString(whole.answers[0]).degradations
    gw.models.gone.add("trees")
    parts = await arrivals.offer(gw.server.address, METHOD, payloads, rate=50.0, seconds=0.2, seed=0, fit=overload.whole)
    assert (len(parts.latencies_ms), parts.unfit) == (0, parts.offered)


def test_good_answers_came_in_time() -> None:
    """Two of three within 100 ms, in 2 s of arrivals: 2 / 2 a second."""
    assert Offered(np.array([50.0, 100.0, 101.0]), 4, 2.0, arrivals.Counter(), ()).good_per_s(100.0) == 2 / 2.0


@pytest.mark.servers
async def test_the_stub_is_a_gateway_of_its_own(home: Path) -> None:
    """It ranks with every member's scores at hand, and leaves nothing in the platform's state directory."""
    before = left_in(home)
    platform = Platform(Layout(home), "", "", "r1", ["--metrics-address", "off"], users=["u"], items=["i1"], queries=["ice"])
    async with stub_gateway(platform) as (address, pid):
        offered = await arrivals.offer(address, METHOD, repeat(search(3).SerializeToString()), rate=20.0, seconds=0.2, seed=0)
        assert rss_mb(pid) > 0
        assert cpu_s(pid) > 0
    assert not offered.failures
    components = {d.component for d in pb.RankResponse.FromString(offered.answers[0]).degradations}
    assert not any(name.startswith("member:") for name in components)
    assert left_in(home) == before


def test_too_few_items_are_an_error() -> None:
    """The longest list needs a thousand."""
    platform = Platform(Layout(Path(sys.prefix)), "", "", "", [], users=["u"], items=["i1"], queries=["ice"])
    with pytest.raises(ValueError, match="need 1000 items"):
        bench.run(platform, QUICK)
