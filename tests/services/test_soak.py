"""The soak's sums are what happened, and its verdict follows from them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from services.bench.soak import Fault, Seen, growth_pct, soak, verdict
from services.feedback.log.sqlite import SqliteLog
from tests.services.gateway_fakes import Gateway, search

REQUESTS = [search(9, query=f"ice {i}") for i in range(3)]  # all of them have texts: nothing is missing but by a fault


def kept(gw: Gateway, prefix: str) -> int:
    log = SqliteLog(gw.layout.events)
    try:
        return sum(row.event.event_id.startswith(prefix) for row in log.read(0, 1_000_000))
    finally:
        log.close()


async def test_faults_strike_and_are_mended_and_nothing_is_lost(gw: Gateway) -> None:
    """A member goes and comes back, again and again: lists say so, none fails, every event is in the log, the last lists are whole."""
    struck: list[str] = []
    loop = asyncio.get_running_loop()

    def asked() -> int:
        return sum(model == "trees" for model, _, _ in list(gw.models.calls))

    def strike() -> None:
        struck.append("struck")
        loop.call_soon_threadsafe(gw.models.gone.add, "trees")
        so_far = asked()
        while asked() < so_far + 5:  # one of them at least finds it gone: four clients cannot have more than four under way
            time.sleep(0.01)

    def mend() -> None:
        struck.append("mended")
        loop.call_soon_threadsafe(gw.models.gone.discard, "trees")

    said = await soak(
        gw.server.address,
        REQUESTS,
        [Fault("trees gone", strike, mend), Fault("never", strike, share=-1.0)],
        seconds=3.0,
        kept=lambda prefix: kept(gw, prefix),
        memory=lambda: {1: 1000},
        pause_s=(0.05, 0.1),
        hold_s=(0.1, 0.2),
    )
    assert said["verdict"] == "passed"
    assert said["figures"]["calls"] > 0
    assert said["figures"]["events"] > 0
    assert said["figures"]["lost_events"] == 0
    assert said["detail"]["faults"] == {"trees gone": struck.count("struck")}
    assert struck == ["struck", "mended"] * (len(struck) // 2)
    assert "member:trees UNAVAILABLE" in said["detail"]["degradations"]


async def test_a_call_that_fails_fails_the_soak(gw: Gateway) -> None:
    """A request that is refused counts by its code."""
    said = await soak(
        gw.server.address, [*REQUESTS, pb.RankRequest()], [], seconds=0.5, kept=lambda prefix: kept(gw, prefix), memory=dict, clients=4
    )
    assert said["verdict"] == "failed"
    assert said["met"]["failures"] is False
    assert set(said["detail"]["failures"]) == {"INVALID_ARGUMENT"}


@pytest.mark.parametrize(
    ("seen", "found", "recovered", "passed"),
    [
        (Seen(calls=5, acknowledged=3), 3, True, True),
        (Seen(calls=5, acknowledged=3), 2, True, False),
        (Seen(calls=5, acknowledged=3), 4, True, True),  # one more was stored and its acknowledgement lost
        (Seen(calls=5), 0, False, False),
        (Seen(), 0, True, False),
        (Seen(calls=5, failures=Counter(INTERNAL=1)), 0, True, False),
    ],
)
def test_the_verdict_follows(seen: Seen, found: int, recovered: bool, passed: bool) -> None:
    """One failed call, one lost event, no recovery or no call at all: failed."""
    assert verdict(seen, 60.0, found, recovered=recovered)["verdict"] == ("passed" if passed else "failed")


def test_memory_is_judged_once_warm() -> None:
    """What a process takes in its first fifth does not count, short lives tell nothing, and the one that grew most decides."""
    flat = [(float(t), 100 if t >= 20 else 10 + t) for t in range(101)]
    growing = [(float(t), 100 + t) for t in range(101)]
    assert growth_pct({1: flat}, warm_s=20.0) == 0.0
    assert growth_pct({1: growing[:21]}, warm_s=20.0) is None
    grown = growth_pct({1: flat, 2: growing}, warm_s=20.0)
    # 81 samples from 120 to 200 bytes: medians of the first and of the last twenty are 129.5 and 190.5
    assert grown == pytest.approx(100.0 * (190.5 / 129.5 - 1.0))
    seen = Seen(calls=1, memory={1: growing})
    assert verdict(seen, 100.0, 0, recovered=True)["verdict"] == "passed"  # too short to be held to it
    assert verdict(Seen(calls=1, memory={1: [(36.0 * t, 100 + t) for t in range(101)]}), 3600.0, 0, recovered=True)["verdict"] == "failed"
