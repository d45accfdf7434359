"""`longtail bench rank`: latency and throughput of a running gateway, beside the same messages against a bare echo server.

Warm: the lists were asked before, so features and text scores are in memory. Cold: every call has a query never asked before, so that
the text model has to score every distinct item text of the list.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb

from services.bench.load import RankLoad, measure
from services.bench.report import report

LISTS = 16  # distinct warm lists per size
CONCURRENCY = 8  # calls under way when throughput is measured
WANTED: dict[str, tuple[str, float]] = {"warm_vs_echo_100": (">=", 0.2), "p50_ms_100_warm": ("<=", 10.0)}


def run(address: str, *, users: Sequence[str], items: Sequence[str], queries: Sequence[str], quick: bool = False) -> dict[str, Any]:
    """Measure and report.

    Args:
        address: of a running gateway with an active release.
        users: user ids to ask for, at least 1.
        items: item ids to make lists of, at least 500.
        queries: search texts, at least 1.
        quick: a few seconds instead of about a minute.

    Returns:
        The benchmark's JSON object: `bench`, `revision`, `host`, `figures`, `wanted`, `met`.

    Raises:
        ValueError: too few items, users or queries.
        RuntimeError: the gateway answers no call.
    """
    if len(items) < 500 or not users or not queries:
        raise ValueError(f"need 500 items, 1 user and 1 query, got {len(items)}, {len(users)} and {len(queries)}")
    figures = asyncio.run(_figures(address, users, items, queries, quick=quick))
    return report("rank", figures, WANTED)


async def _figures(address: str, users: Sequence[str], items: Sequence[str], queries: Sequence[str], *, quick: bool) -> dict[str, float]:
    rng = np.random.default_rng(0)
    seconds, cold_calls = (1.0, 3) if quick else (8.0, 24)
    figures: dict[str, float] = {}
    async with echo_server() as echo:
        for n in (100, 500):
            lists = [request(rng, users, items, queries[i % len(queries)], n) for i in range(LISTS)]
            await _warm_up(address, lists)
            alone = await measure(address, lists, concurrency=1, seconds=seconds)
            # Ours and the yardstick in turns, so that a machine that slows down slows both.
            crowd: list[RankLoad] = []
            bare: list[RankLoad] = []
            for _ in range(2):
                crowd.append(await measure(address, lists, concurrency=CONCURRENCY, seconds=seconds / 2))
                bare.append(await measure(echo, lists, concurrency=CONCURRENCY, seconds=seconds / 2))
            bare_alone = await measure(echo, lists, concurrency=1, seconds=seconds / 4)
            cold = await measure(
                address, [request(rng, users, items, _unseen(queries), n) for _ in range(cold_calls)], concurrency=1, calls=cold_calls
            )
            figures |= {
                f"p50_ms_{n}_warm": alone.p50_ms,
                f"p99_ms_{n}_warm": alone.p99_ms,
                f"p50_ms_{n}_cold": cold.p50_ms,
                f"rps_{n}_warm": float(np.mean([c.rps for c in crowd])),
                f"echo_rps_{n}": float(np.mean([b.rps for b in bare])),
                f"echo_p50_ms_{n}": bare_alone.p50_ms,
                f"degraded_share_{n}_warm": alone.degraded_share(),
                f"degraded_share_{n}_cold": cold.degraded_share(),
                f"failures_{n}": float(alone.failures + cold.failures + sum(c.failures for c in crowd)),
            }
            figures |= {f"p99_ms_{n}_cold": cold.p99_ms, f"cold_calls_{n}": float(len(cold.latencies_ms))}  # under 100 calls: the slowest
            if n == 100:
                figures |= await _cold_crowd(address, users, items, queries, 2 * CONCURRENCY if quick else 6 * CONCURRENCY)
            figures |= {f"stage_share_{stage}_{n}_warm": share for stage, share in alone.stage_shares().items()}
            figures[f"warm_vs_echo_{n}"] = figures[f"rps_{n}_warm"] / figures[f"echo_rps_{n}"]
    return figures


async def _cold_crowd(address: str, users: Sequence[str], items: Sequence[str], queries: Sequence[str], calls: int) -> dict[str, float]:
    """Throughput of lists of 100 whose texts all have to be scored, and how many of the answers had to go without some of them."""
    rng = np.random.default_rng(1)
    crowd = await measure(
        address, [request(rng, users, items, _unseen(queries), 100) for _ in range(calls)], concurrency=CONCURRENCY, calls=calls
    )
    return {
        "rps_100_cold": crowd.rps,
        "rps_100_cold_calls": float(len(crowd.latencies_ms)),
        "rps_100_cold_degraded_share": crowd.degraded_share(),
        "rps_100_cold_failures": float(crowd.failures),
    }


async def _warm_up(address: str, lists: Sequence[pb.RankRequest]) -> None:
    """Ask every list until it is answered whole, at most three times: late text scores fill the cache all the same."""
    for _ in range(3):
        if not (await measure(address, lists, concurrency=2, calls=len(lists))).degraded_share():
            return
        await asyncio.sleep(1.0)


def request(rng: np.random.Generator, users: Sequence[str], items: Sequence[str], query: str, n: int) -> pb.RankRequest:
    """A search for somebody among `n` of the items."""
    chosen = rng.choice(len(items), n, replace=False)
    return pb.RankRequest(
        surface=pb.SURFACE_SEARCH,
        query=query,
        user_id=users[int(rng.integers(len(users)))],
        candidates=pb.Candidates(item_ids=[items[i] for i in chosen]),
    )


def _unseen(queries: Sequence[str]) -> str:
    return f"{queries[0]} {uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """The address of a bare echo server in a process of its own, for as long as the context lasts."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.bench.echo", stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()
