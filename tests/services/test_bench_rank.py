"""The rank benchmark measures what it says."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from services.bench import rank
from services.bench.echo import canned
from services.bench.load import RankLoad, measure
from tests.services.gateway_fakes import Gateway, search


@pytest.mark.servers
async def test_the_report_has_every_figure_and_judges_it(gw: Gateway) -> None:
    """Ours and the echo server's figures from one run, shares that add up, and a verdict per mark."""
    items, queries = [f"i{i}" for i in range(600)], ["ice", "milk"]
    report = await asyncio.to_thread(rank.run, gw.server.address, users=["u"], items=items, queries=queries, quick=True)
    figures = report["figures"]
    for name in (
        "p50_ms_100_warm",
        "p99_ms_100_warm",
        "p50_ms_100_cold",
        "rps_100_warm",
        "echo_rps_100",
        "warm_vs_echo_100",
        "p99_ms_500_warm",
        "p99_ms_500_cold",
        "rps_100_cold",
    ):
        assert figures[name] > 0
    assert figures["cold_calls_100"] == figures["cold_calls_500"] == 3
    assert figures["rps_100_cold_calls"] == 2 * rank.CONCURRENCY
    assert figures["rps_100_cold_failures"] == figures["rps_100_cold_degraded_share"] == 0
    assert figures["warm_vs_echo_100"] == pytest.approx(figures["rps_100_warm"] / figures["echo_rps_100"], abs=1e-3)
    parts = [v for k, v in figures.items() if k.startswith("stage_share_") and k.endswith("_100_warm") and "." not in k]
    assert sum(parts) == pytest.approx(1.0, abs=0.1)
    assert figures["failures_100"] == figures["failures_500"] == figures["degraded_share_100_warm"] == 0
    assert report["met"] == {
        name: bool(figures[name] >= v if s == ">=" else figures[name] <= v) for name, (s, v) in report["wanted"].items()
    }
    assert report["bench"] == "rank"
    assert {"cores", "cpu", "memory"} == set(report["host"])


async def test_the_yardstick_answers_with_as_much_as_the_gateway(gw: Gateway) -> None:
    """The echo server's answer is within a fifth of the gateway's in bytes."""
    request = search(100)
    request.candidates.item_ids[:] = [f"item-{i:07d}" for i in range(100)]
    ours = (await gw.rank(request)).ByteSize()
    assert canned(100).ByteSize() == pytest.approx(ours, rel=0.2)


async def test_failures_are_counted_and_not_timed(gw: Gateway) -> None:
    """Of 10 calls half are refused: 5 latencies, 5 failures; if every call fails that is an error."""
    load = await measure(gw.server.address, [search(3), search(0)], concurrency=2, calls=10)
    assert (len(load.latencies_ms), load.failures) == (5, 5)
    with pytest.raises(RuntimeError, match=r"no call to .* succeeded"):
        await measure(gw.server.address, [search(0)], concurrency=1, calls=2)


def test_stage_shares_are_shares_of_the_total() -> None:
    """A stage of 3 ms of a total of 4 ms has a share of 3 / 4."""
    answer = pb.RankResponse()
    answer.stage_durations["score"].FromMilliseconds(3)
    answer.stage_durations["total"].FromMilliseconds(4)
    assert RankLoad(np.array([1.0]), 1.0, 0, (answer,)).stage_shares() == {"score": 3 / 4}
