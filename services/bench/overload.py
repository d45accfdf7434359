"""Load beyond what the gateway can rank: its capacity, and how many answers a second are in time (goodput) at five times of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb

from services.bench import arrivals, load
from services.bench.arrivals import Offered
from services.bench.load import METHOD
from services.bench.platform import CONCURRENCY, Lists, Times, lacks, payloads
from services.client.throttle import Throttle

_SIZE = 500  # candidates: five times as many lists of 100 as one process can rank are more than one Python client can send
_IN_TIME_MS = 1000.0  # an answer that counts as good
_COLD_SIZE = 25  # candidates: a text model's tenths of a second; with 100 a list alone takes most of the second it has
_COLD_CROWDS = (1, 2)  # calls under way among which the capacity for cold lists is looked for: more are answered in part
_DRAIN_S = 30  # longest to wait until Triton has done what nobody waits for any more


async def warm(address: str, lists: Lists, times: Times) -> dict[str, float]:
    """Answers in time at once and at five times the capacity, to the capacity, which is measured before each.

    Five times also by callers who hold back as `RankingClient` does, with the second as their deadline; their throttle knows nothing
    when a turn begins.
    """
    asked = lists.some(_SIZE)
    capacity: list[float] = []
    runs: dict[str, list[Offered]] = {"1x": [], "5x": [], "5x_client": []}
    for turn in range(times.rounds):
        capacity.append((await load.measure(address, asked, concurrency=CONCURRENCY, seconds=times.block)).rps)
        for name, factor in (("1x", 1.0), ("5x", 5.0), ("5x_client", 5.0)):
            rate, seconds = factor * capacity[-1], times.open / times.rounds
            client = name == "5x_client"
            runs[name].append(
                await arrivals.offer(
                    address,
                    METHOD,
                    payloads(asked),
                    rate=rate,
                    seconds=seconds,
                    seed=turn,
                    timeout_s=_IN_TIME_MS / 1e3 if client else 10.0,
                    throttle=Throttle() if client else None,
                )
            )
    full = float(np.mean(capacity))
    good = {name: float(np.mean([one.good_per_s(_IN_TIME_MS) for one in some])) for name, some in runs.items()}
    all_sent, held = runs["1x"] + runs["5x"], runs["5x_client"]
    return {
        "capacity_rps": full,
        **{f"goodput_{name}_rps": rps for name, rps in good.items()},
        **{f"goodput_{name}": rps / full for name, rps in good.items()},
        "overload_refused": float(_refused(all_sent)),
        "overload_failures": float(_failed(all_sent)),
        "client_offered": float(sum(one.offered for one in held)),
        "client_refused": float(sum(one.held_back for one in held)),
        "client_refused_by_server": float(_refused(held)),
        "client_failures": float(_failed(held)),
    }


async def cold(address: str, lists: Lists, times: Times) -> dict[str, float]:
    """Whole answers in time at five times the capacity for lists nobody asked for before, to that capacity, in turns.

    Callers wait for a second and say so; an answer that lacks scores of a member comes in time and does not count.
    """
    capacity: list[float] = []
    runs: list[Offered] = []
    seconds = times.open / times.rounds
    for turn in range(times.rounds):
        capacity.append(max([await _whole_per_s(address, lists, times, crowd) for crowd in _COLD_CROWDS]))
        runs.append(
            await arrivals.offer(
                address,
                METHOD,
                _unseen(lists),
                rate=5.0 * max(capacity[-1], 1.0 / seconds),
                seconds=seconds,
                seed=turn,
                timeout_s=_IN_TIME_MS / 1e3,
                fit=whole,
            )
        )
        await _drained(address, lists)
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


async def _whole_per_s(address: str, lists: Lists, times: Times, concurrency: int) -> float:
    """Cold lists per second that come in time and whole."""
    seconds = max(times.open / times.rounds, times.block)
    taken = await load.send(address, METHOD, _unseen(lists), concurrency=concurrency, seconds=seconds, timeout_s=_IN_TIME_MS / 1e3)
    answers = list(zip(taken.latencies_ms[-len(taken.answers) :].tolist(), taken.answers, strict=True))
    good = sum(ms <= _IN_TIME_MS and whole(answer) for ms, answer in answers)
    return float(good) / len(answers) * taken.rps


async def _drained(address: str, lists: Lists) -> None:
    """Wait until a cold list is answered whole again: what was asked for is scored although its caller has left."""
    for _ in range(_DRAIN_S):
        asked = await load.measure(address, [lists.one(_COLD_SIZE, lists.unseen())], concurrency=1, calls=1)
        if not lacks(asked.answers[0]):
            return
        await asyncio.sleep(1.0)


def _unseen(lists: Lists) -> Iterator[bytes]:
    """Lists nobody asked for before, without end."""
    while True:
        yield lists.one(_COLD_SIZE, lists.unseen()).SerializeToString()


def whole(answer: bytes) -> bool:
    """Whether every member said what it could of the list."""
    return not lacks(pb.RankResponse.FromString(answer))


def _refused(runs: Sequence[Offered]) -> int:
    """Calls the server refused."""
    return sum(one.failures["RESOURCE_EXHAUSTED"] for one in runs)


def _failed(runs: Sequence[Offered]) -> int:
    """Calls that ended otherwise without an answer."""
    return sum(one.failures.total() for one in runs) - _refused(runs)
