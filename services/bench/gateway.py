"""`longtail bench gateway`: Rank beside a bare echo, with models that answer at once and with real Triton, and Triton beside both.

Ours and its yardstick take turns in short blocks of one run, so that a machine that slows down slows both. Throughput is of closed loops,
latency of open ones at half of the gateway's capacity, counted from when a call was meant to begin. Cold: a query never asked before.
Zipf: queries drawn with probability ∝ 1 / rank^1.1, each with candidates of its own, asked before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from services.bench import arrivals, load, overload, rank
from services.bench.direct import Direct
from services.bench.load import METHOD, RankLoad
from services.bench.platform import CONCURRENCY, Lists, Platform, Times, lacks, payloads
from services.bench.report import report
from services.bench.stubbed import cpu_s, rss_mb, stub_gateway

SIZES = (10, 100, 500, 1000)
_QUERIES, _ZIPF = 100, 1.1
WANTED: dict[str, tuple[str, float]] = {
    "stub_vs_echo_100": (">=", 0.5),
    "stub_p99_vs_echo_100": ("<=", 3.0),
    "overhead_vs_triton_100": ("<=", 1.05),
    "zipf_vs_cold": (">=", 8.0),
    "goodput_5x": (">=", 0.9),
    "goodput_5x_client": (">=", 0.9),
    "goodput_5x_cold": (">=", 0.9),
    "rss_growth_pct": ("<=", 2.0),
}


def run(platform: Platform, times: Times) -> dict[str, Any]:
    """Measure and report.

    Raises:
        ValueError: too few items, users or queries.
        RuntimeError: something answers no call, or there is no item snapshot.
    """
    found = (len(platform.items), len(platform.users), len(platform.queries))
    if found[0] < max(SIZES) or not found[1] or not found[2]:
        raise ValueError(f"need {max(SIZES)} items, 1 user and 1 query, got {found[0]}, {found[1]} and {found[2]}")
    return report("gateway", asyncio.run(_Run(platform, times).figures()), WANTED)


class _Run:
    def __init__(self, platform: Platform, times: Times) -> None:
        self._platform, self._times = platform, times
        self._lists = Lists(platform)

    async def figures(self) -> dict[str, float]:
        out: dict[str, float] = {}
        async with rank.echo_server() as echo, stub_gateway(self._platform) as (stub, pid):
            for n in SIZES:
                out |= await self._beside_echo(echo, stub, pid, n)
            out |= await overload.warm(stub, self._lists, self._times)
            out |= await self._soak(stub, pid)
        for n in SIZES:
            out |= await self._with_triton(n)
        out |= await self._zipf()
        return out | await overload.cold(self._platform.address, self._lists, self._times)

    async def _beside_echo(self, echo: str, stub: str, pid: int, n: int) -> dict[str, float]:
        """Rank with a stub scorer and the echo, in turns."""
        lists = self._lists.some(n)
        times, ours, bare, spent = self._times, [], [], 0.0
        await load.measure(stub, lists, concurrency=2, calls=2 * len(lists))
        for _ in range(times.rounds):
            before = cpu_s(pid)
            ours.append(await load.measure(stub, lists, concurrency=CONCURRENCY, seconds=times.block))
            spent += cpu_s(pid) - before
            bare.append(await load.measure(echo, lists, concurrency=CONCURRENCY, seconds=times.block))
        rps, echo_rps = (float(np.mean([one.rps for one in some])) for some in (ours, bare))
        shares = ours[-1].stage_shares()
        figures = {
            f"stub_rps_{n}": rps,
            f"echo_rps_{n}": echo_rps,
            f"stub_vs_echo_{n}": rps / echo_rps,
            f"stub_rps_per_core_{n}": sum(len(one.latencies_ms) for one in ours) / max(spent, 1e-9),
            **{f"stub_share_{stage}_{n}": share for stage, share in shares.items()},
        }
        waits: dict[str, list[np.ndarray[Any, Any]]] = {"stub": [], "echo": []}
        for turn in range(times.rounds):
            for name, address in (("stub", stub), ("echo", echo)):
                offered = await arrivals.offer(address, METHOD, payloads(lists), rate=rps / 2, seconds=times.open / times.rounds, seed=turn)
                waits[name].append(offered.latencies_ms)
        for name, some in waits.items():
            figures |= {f"{name}_p{label}_ms_{n}": _quantile(some, q) for label, q in (("50", 0.5), ("99", 0.99), ("999", 0.999))}
        return figures | {f"stub_p99_vs_echo_{n}": figures[f"stub_p99_ms_{n}"] / figures[f"echo_p99_ms_{n}"]}

    async def _soak(self, stub: str, pid: int) -> dict[str, float]:
        """Growth of the process between a fifth of the soak and its end, at half of the capacity."""
        lists = self._lists.some(100)
        capacity = (await load.measure(stub, lists, concurrency=CONCURRENCY, seconds=self._times.block)).rps
        sizes = []
        for seconds in (self._times.soak / 5, self._times.soak * 4 / 5):
            await arrivals.offer(stub, METHOD, payloads(lists), rate=capacity / 2, seconds=seconds, seed=1)
            sizes.append(rss_mb(pid))
        return {"soak_s": self._times.soak, "rss_mb": sizes[1], "rss_growth_pct": 100.0 * (sizes[1] / sizes[0] - 1.0)}

    async def _with_triton(self, n: int) -> dict[str, float]:
        """Rank with real Triton, warm, and cold in turns with Triton asked directly for the same lists."""
        platform, lists = self._platform, self._lists.some(n)
        await load.measure(platform.address, lists, concurrency=2, calls=2 * len(lists))
        warm = await load.measure(platform.address, lists, concurrency=CONCURRENCY, seconds=self._times.block)
        direct = Direct(platform.layout, platform.release, platform.triton, chunk=128)
        ours: list[float] = []
        theirs: list[float] = []
        degraded: list[float] = []
        try:
            for turn in range(self._times.cold):
                request = self._lists.one(n, self._lists.unseen())
                calls = direct.calls(self._lists.unseen(), request.candidates.item_ids)
                if turn % 2:  # whoever comes second finds the models' weights in the processor's caches
                    theirs.append(await direct.ask(calls))
                cold: RankLoad = await load.measure(platform.address, [request], concurrency=1, calls=1)
                ours.append(cold.p50_ms)
                degraded.append(cold.degraded_share())
                if not turn % 2:
                    theirs.append(await direct.ask(calls))
        finally:
            await direct.close()
        return {
            f"triton_warm_rps_{n}": warm.rps,
            f"triton_warm_p50_ms_{n}": warm.p50_ms,
            f"triton_warm_p99_ms_{n}": warm.p99_ms,
            f"triton_cold_p50_ms_{n}": float(np.median(ours)),
            f"triton_direct_p50_ms_{n}": float(np.median(theirs)),
            f"triton_cold_degraded_{n}": float(np.mean(degraded)),
            f"overhead_vs_triton_{n}": float(np.median(ours) / np.median(theirs)),
            "text_members": float(direct.texts),
            **{f"triton_share_{stage}_{n}": share for stage, share in warm.stage_shares().items()},
        }

    async def _zipf(self) -> dict[str, float]:
        """Lists per second of queries as users ask them, all asked before, and of queries nobody asked before, as far as they are whole."""
        address, times = self._platform.address, self._times
        lists = [self._lists.one(100, f"{self._platform.queries[i % len(self._platform.queries)]} {i}") for i in range(_QUERIES)]
        for _ in range(2):  # what is late the first time is known the second
            await load.measure(address, lists, concurrency=2, calls=len(lists))
        weights = 1.0 / np.arange(1, _QUERIES + 1) ** _ZIPF
        drawn = [lists[i] for i in self._lists.rng.choice(_QUERIES, 2000, p=weights / weights.sum())]
        zipf, cold = [], []
        for _ in range(times.rounds):
            zipf.append(await load.measure(address, drawn, concurrency=CONCURRENCY, seconds=times.block))
            unseen = [self._lists.one(100, self._lists.unseen()) for _ in range(max(times.cold, CONCURRENCY))]
            cold.append(await load.measure(address, unseen, concurrency=CONCURRENCY, calls=len(unseen)))
        lacking = [float(np.mean([lacks(answer) for answer in one.answers])) for one in cold]
        zipf_rps = float(np.mean([one.rps for one in zipf]))
        cold_rps = float(np.mean([one.rps * (1.0 - share) for one, share in zip(cold, lacking, strict=True)]))
        return {
            "zipf_rps": zipf_rps,
            "zipf_p50_ms": float(np.median([one.p50_ms for one in zipf])),
            "cold_rps": cold_rps,
            "cold_lacking": float(np.mean(lacking)),
            "zipf_vs_cold": zipf_rps / max(cold_rps, 1e-9),
        }


def _quantile(some: Sequence[np.ndarray[Any, Any]], q: float) -> float:
    return float(np.quantile(np.concatenate(some), q))
