"""`longtail bench gateway`: Rank beside a bare echo, with models that answer at once and with real Triton, and Triton beside both.

Ours and its yardstick take turns in short blocks of one run, so that a machine that slows down slows both. Throughput is of closed loops,
latency of open ones at half of the gateway's capacity, counted from when a call was meant to begin. Cold: a query never asked before.
Zipf: queries drawn with probability ∝ 1 / rank^1.1, each with candidates of its own, asked before. Overload: five times the capacity by
callers who send everything, and by callers who hold back as `RankingClient` does; cold, an answer counts if it is whole, too.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.layout import Layout
from services.bench import arrivals, load, rank
from services.bench.arrivals import Offered
from services.bench.direct import Direct, snapshot_of
from services.bench.load import METHOD, RankLoad
from services.bench.report import report
from services.client.throttle import Throttle

SIZES = (10, 100, 500, 1000)
_LISTS, _QUERIES, _ZIPF, _CATALOGUE = 16, 100, 1.1, 5000
_CONCURRENCY = 8
_OVERLOAD_SIZE = 500  # candidates: five times as many lists of 100 as one process can rank are more than one Python client can send
_IN_TIME_MS = 1000.0  # an answer that counts as good under overload
_COLD_SIZE = 25  # candidates: a text model's tenths of a second; with 100 a list alone takes most of the second it has
_COLD_CROWDS = (1, 2)  # calls under way among which the capacity for cold lists is looked for: more are answered in part
_DRAIN_S = 30  # longest to wait until Triton has done what nobody waits for any more
_SHARED = ("releases", "feast", "snapshot", "serving.json")  # what the stub's state directory has of the platform's
_SETTLE_S, _IDLE_SHARE = 60, 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
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


@dataclass(frozen=True, slots=True)
class Times:
    """How long things are measured, in seconds, and how often."""

    block: float = 4.0
    rounds: int = 3
    cold: int = 16  # lists, half of them after Triton was asked for the same
    open: float = 10.0
    soak: float = 60.0


QUICK = Times(0.5, 2, 2, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Platform:
    """What runs, and what it can be asked."""

    layout: Layout
    address: str  # of the gateway
    triton: str
    release: str
    options: Sequence[str]  # of a gateway beside it: feature repository, clock
    users: Sequence[str]
    items: Sequence[str]  # at least 1,000
    queries: Sequence[str]


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


def catalogue(layout: Layout) -> list[str]:
    """Items to make lists of: the first of the item snapshot.

    Raises:
        RuntimeError: there is none.
    """
    return list(islice(snapshot_of(layout).ids(), _CATALOGUE))


class _Run:
    def __init__(self, platform: Platform, times: Times) -> None:
        self._platform, self._times = platform, times
        self._rng = np.random.default_rng(0)

    async def figures(self) -> dict[str, float]:
        out: dict[str, float] = {}
        async with rank.echo_server() as echo, _stub(self._platform) as (stub, pid):
            for n in SIZES:
                out |= await self._beside_echo(echo, stub, pid, n)
            out |= await self._overload(stub)
            out |= await self._soak(stub, pid)
        for n in SIZES:
            out |= await self._with_triton(n)
        out |= await self._zipf()
        return out | await self._overload_cold()

    async def _beside_echo(self, echo: str, stub: str, pid: int, n: int) -> dict[str, float]:
        """Rank with a stub scorer and the echo, in turns."""
        lists = self._lists(n)
        times, ours, bare, spent = self._times, [], [], 0.0
        await load.measure(stub, lists, concurrency=2, calls=2 * len(lists))
        for _ in range(times.rounds):
            before = _cpu_s(pid)
            ours.append(await load.measure(stub, lists, concurrency=_CONCURRENCY, seconds=times.block))
            spent += _cpu_s(pid) - before
            bare.append(await load.measure(echo, lists, concurrency=_CONCURRENCY, seconds=times.block))
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
                offered = await arrivals.offer(
                    address, METHOD, _payloads(lists), rate=rps / 2, seconds=times.open / times.rounds, seed=turn
                )
                waits[name].append(offered.latencies_ms)
        for name, some in waits.items():
            figures |= {f"{name}_p{label}_ms_{n}": _quantile(some, q) for label, q in (("50", 0.5), ("99", 0.99), ("999", 0.999))}
        return figures | {f"stub_p99_vs_echo_{n}": figures[f"stub_p99_ms_{n}"] / figures[f"echo_p99_ms_{n}"]}

    async def _overload(self, stub: str) -> dict[str, float]:
        """Answers in time at once and at five times the capacity, to the capacity, which is measured before each.

        Five times also by callers who hold back as `RankingClient` does, with the second as their deadline; their throttle knows nothing
        when a turn begins.
        """
        lists = self._lists(_OVERLOAD_SIZE)
        capacity: list[float] = []
        runs: dict[str, list[Offered]] = {"1x": [], "5x": [], "5x_client": []}
        for turn in range(self._times.rounds):
            capacity.append((await load.measure(stub, lists, concurrency=_CONCURRENCY, seconds=self._times.block)).rps)
            for name, times in (("1x", 1.0), ("5x", 5.0), ("5x_client", 5.0)):
                rate, seconds = times * capacity[-1], self._times.open / self._times.rounds
                client = name == "5x_client"
                runs[name].append(
                    await arrivals.offer(
                        stub,
                        METHOD,
                        _payloads(lists),
                        rate=rate,
                        seconds=seconds,
                        seed=turn,
                        timeout_s=_IN_TIME_MS / 1e3 if client else 10.0,
                        throttle=Throttle() if client else None,
                    )
                )
        full = float(np.mean(capacity))
        good = {name: float(np.mean([one.good_per_s(_IN_TIME_MS) for one in some])) for name, some in runs.items()}
        asked, held = runs["1x"] + runs["5x"], runs["5x_client"]
        return {
            "capacity_rps": full,
            **{f"goodput_{name}_rps": rps for name, rps in good.items()},
            **{f"goodput_{name}": rps / full for name, rps in good.items()},
            "overload_refused": float(_refused(asked)),
            "overload_failures": float(_failed(asked)),
            "client_offered": float(sum(one.offered for one in held)),
            "client_refused": float(sum(one.held_back for one in held)),
            "client_refused_by_server": float(_refused(held)),
            "client_failures": float(_failed(held)),
        }

    async def _overload_cold(self) -> dict[str, float]:
        """Whole answers in time at five times the capacity for lists nobody asked for before, to that capacity, in turns.

        Callers wait for a second and say so; an answer that lacks scores of a member comes in time and does not count.
        """
        address, capacity, runs = self._platform.address, [], []
        seconds = self._times.open / self._times.rounds
        for turn in range(self._times.rounds):
            closed = [await self._whole_per_s(crowd) for crowd in _COLD_CROWDS]
            capacity.append(max(closed))
            runs.append(
                await arrivals.offer(
                    address,
                    METHOD,
                    self._cold(),
                    rate=5.0 * max(capacity[-1], 1.0 / seconds),
                    seconds=seconds,
                    seed=turn,
                    timeout_s=_IN_TIME_MS / 1e3,
                    fit=_whole,
                )
            )
            await self._drained()
        full, good = float(np.mean(capacity)), float(np.mean([one.good_per_s(_IN_TIME_MS) for one in runs]))
        offered = sum(one.offered for one in runs)
        return {
            "capacity_cold_rps": full,
            "goodput_5x_cold_rps": good,
            "goodput_5x_cold": good / full if full else 0.0,
            "overload_cold_offered": float(offered),
            "overload_cold_in_part": float(sum(one.unfit for one in runs)),
            "overload_cold_refused": float(_refused(runs)),
            "overload_cold_failures": float(_failed(runs)),
        }

    async def _whole_per_s(self, concurrency: int) -> float:
        """Cold lists per second that come in time and whole."""
        seconds = max(self._times.open / self._times.rounds, self._times.block)
        taken = await load.send(
            self._platform.address, METHOD, self._cold(), concurrency=concurrency, seconds=seconds, timeout_s=_IN_TIME_MS / 1e3
        )
        answers = list(zip(taken.latencies_ms[-len(taken.answers) :].tolist(), taken.answers, strict=True))
        good = sum(ms <= _IN_TIME_MS and _whole(answer) for ms, answer in answers)
        return float(good) / len(answers) * taken.rps

    async def _drained(self) -> None:
        """Wait until a cold list is answered whole again: what was asked for is scored although its caller has left."""
        for _ in range(_DRAIN_S):
            asked = await load.measure(self._platform.address, [self._list(_COLD_SIZE, self._unseen())], concurrency=1, calls=1)
            if not _lacks(asked.answers[0]):
                return
            await asyncio.sleep(1.0)

    def _cold(self) -> Iterator[bytes]:
        """Lists nobody asked for before, without end."""
        while True:
            yield self._list(_COLD_SIZE, self._unseen()).SerializeToString()

    async def _soak(self, stub: str, pid: int) -> dict[str, float]:
        """Growth of the process between a fifth of the soak and its end, at half of the capacity."""
        lists = self._lists(100)
        capacity = (await load.measure(stub, lists, concurrency=_CONCURRENCY, seconds=self._times.block)).rps
        sizes = []
        for seconds in (self._times.soak / 5, self._times.soak * 4 / 5):
            await arrivals.offer(stub, METHOD, _payloads(lists), rate=capacity / 2, seconds=seconds, seed=1)
            sizes.append(_rss_mb(pid))
        return {"soak_s": self._times.soak, "rss_mb": sizes[1], "rss_growth_pct": 100.0 * (sizes[1] / sizes[0] - 1.0)}

    async def _with_triton(self, n: int) -> dict[str, float]:
        """Rank with real Triton, warm, and cold in turns with Triton asked directly for the same lists."""
        platform, lists = self._platform, self._lists(n)
        await load.measure(platform.address, lists, concurrency=2, calls=2 * len(lists))
        warm = await load.measure(platform.address, lists, concurrency=_CONCURRENCY, seconds=self._times.block)
        direct = Direct(platform.layout, platform.release, platform.triton, chunk=128)
        ours: list[float] = []
        theirs: list[float] = []
        degraded: list[float] = []
        try:
            for turn in range(self._times.cold):
                request = self._list(n, self._unseen())
                calls = direct.calls(self._unseen(), request.candidates.item_ids)
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
        lists = [self._list(100, f"{self._platform.queries[i % len(self._platform.queries)]} {i}") for i in range(_QUERIES)]
        for _ in range(2):  # what is late the first time is known the second
            await load.measure(address, lists, concurrency=2, calls=len(lists))
        weights = 1.0 / np.arange(1, _QUERIES + 1) ** _ZIPF
        drawn = [lists[i] for i in self._rng.choice(_QUERIES, 2000, p=weights / weights.sum())]
        zipf, cold = [], []
        for _ in range(times.rounds):
            zipf.append(await load.measure(address, drawn, concurrency=_CONCURRENCY, seconds=times.block))
            unseen = [self._list(100, self._unseen()) for _ in range(max(times.cold, _CONCURRENCY))]
            cold.append(await load.measure(address, unseen, concurrency=_CONCURRENCY, calls=len(unseen)))
        lacking = [float(np.mean([_lacks(answer) for answer in one.answers])) for one in cold]
        zipf_rps = float(np.mean([one.rps for one in zipf]))
        cold_rps = float(np.mean([one.rps * (1.0 - share) for one, share in zip(cold, lacking, strict=True)]))
        return {
            "zipf_rps": zipf_rps,
            "zipf_p50_ms": float(np.median([one.p50_ms for one in zipf])),
            "cold_rps": cold_rps,
            "cold_lacking": float(np.mean(lacking)),
            "zipf_vs_cold": zipf_rps / max(cold_rps, 1e-9),
        }

    def _lists(self, n: int) -> list[pb.RankRequest]:
        queries = self._platform.queries
        return [self._list(n, queries[i % len(queries)]) for i in range(_LISTS)]

    def _list(self, n: int, query: str) -> pb.RankRequest:
        return rank.request(self._rng, self._platform.users, self._platform.items, query, n)

    def _unseen(self) -> str:
        return f"{self._platform.queries[0]} {uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def _stub(platform: Platform) -> AsyncIterator[tuple[str, int]]:
    """A gateway with stub models over the platform's data: address and process id. Its state is its own: its scores mean nothing."""
    with tempfile.TemporaryDirectory(prefix="longtail-bench-") as folder:
        for name in _SHARED:
            if (platform.layout.home / name).exists():
                (Path(folder) / name).symlink_to(platform.layout.home / name)
        command = [sys.executable, "-m", "services.bench.stub", "--address", "127.0.0.1:0", "--home", folder, "--log-level", "ERROR"]
        environment = os.environ | {"LONGTAIL_HOME": folder}
        process = await asyncio.create_subprocess_exec(*command, *platform.options, env=environment, stdout=asyncio.subprocess.PIPE)
        try:
            assert process.stdout is not None
            address = (await process.stdout.readline()).decode().strip()
            if not address:
                raise RuntimeError(f"the gateway with stub models ended with {await process.wait()}")
            await _settled(process.pid)
            yield address, process.pid
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _settled(pid: int) -> None:
    """Wait until a process has nothing to do: a gateway imports what explanations need once it serves, which takes seconds of a core."""
    for _ in range(_SETTLE_S):
        before = _cpu_s(pid)
        await asyncio.sleep(1.0)
        if _cpu_s(pid) - before < _IDLE_SHARE:
            return


def _lacks(answer: pb.RankResponse) -> bool:
    """Whether some member's scores are missing."""
    return any(d.component.startswith("member:") for d in answer.degradations)


def _whole(answer: bytes) -> bool:
    """Whether every member said what it could of the list."""
    return not _lacks(pb.RankResponse.FromString(answer))


def _refused(runs: Sequence[Offered]) -> int:
    """Calls the server refused."""
    return sum(one.failures["RESOURCE_EXHAUSTED"] for one in runs)


def _failed(runs: Sequence[Offered]) -> int:
    """Calls that ended otherwise without an answer."""
    return sum(one.failures.total() for one in runs) - _refused(runs)


def _payloads(lists: Sequence[pb.RankRequest]) -> Iterator[bytes]:
    return cycle([one.SerializeToString() for one in lists])


def _quantile(some: Sequence[np.ndarray[Any, Any]], q: float) -> float:
    return float(np.quantile(np.concatenate(some), q))


def _cpu_s(pid: int) -> float:
    """Processor time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _rss_mb(pid: int) -> float:
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
