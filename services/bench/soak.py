"""Load with random faults for as long as asked, and a verdict: what was asked, what failed, what was missing, what was lost, and memory.

Lists are ranked and events recorded all the time, by clients that wait and repeat as the recommended ones do, while faults strike one after
another and are mended. Who strikes what is the caller's; here are the load, the dice and the sums. Needs no store and no Triton itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from longtail.feedback.v1 import feedback_service_pb2 as feedback_pb
from longtail.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from services.bench.report import report

_DEADLINE_S = 300.0  # of a call, waiting in it: a gateway that was killed needs a while to come back on a busy machine
_LOOK_S = 1.0  # between two looks at memory
_WHOLE_S = 300.0  # longest to wait for a whole answer once nothing strikes any more
_LONG_S = 1800.0  # of load, from which on memory is to be flat
_GROWTH_PCT = 2.0
CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],  # without it gRPC does not ask for health
        "healthCheckConfig": {"serviceName": "longtail.ranking.v1.RankingService"},
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)
"""Service config of a client that asks a gateway once it serves, and repeats a call that was cut off."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that can go wrong.

    Attributes:
        name: for the verdict.
        strike: does it; blocks, in a thread.
        mend: undoes it, where it does not pass by itself.
        share: of the soak's time in which it may strike, from the beginning: a killed process tells nothing of its memory.
    """

    name: str
    strike: Callable[[], None]
    mend: Callable[[], None] = lambda: None
    share: float = 1.0


@dataclass(slots=True)
class Seen:
    """Sums so far."""

    calls: int = 0
    degraded: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # by status code
    degradations: Counter[str] = field(default_factory=Counter)  # by "component reason"
    acknowledged: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    memory: dict[int, list[tuple[float, int]]] = field(default_factory=dict)  # process -> (seconds since the start, bytes)
    whole: bool = False  # the last list missed nothing


async def soak(
    address: str,
    requests: Sequence[pb.RankRequest],
    faults: Sequence[Fault],
    *,
    seconds: float,
    kept: Callable[[str], int],
    memory: Callable[[], Mapping[int, int]],
    clock: Callable[[], float] = time.time,
    seed: int = 0,
    clients: int = 4,
    pause_s: tuple[float, float] = (5.0, 20.0),
    hold_s: tuple[float, float] = (1.0, 8.0),
) -> dict[str, Any]:
    """Run it and judge.

    Args:
        address: of the gateway, which keeps it across restarts.
        requests: sent in turn; the same ones over and over, so that caches fill and memory can be flat.
        faults: one at a time, drawn anew each time.
        seconds: of load.
        kept: prefix of event ids -> how many events of it the log has, each counted once.
        memory: process id -> resident bytes, of the gateways that run now.
        clock: seconds since 1970 of the platform, which may replay what was: an event far ahead of it would be rejected.
        seed: of the draws.
        clients: lists ranked at once.
        pause_s: between two faults, least and most.
        hold_s: how long one lasts before it is mended.

    Returns:
        As `report.report`, and `verdict`, `failures`, `degradations` and `faults` in detail.
    """
    seen, dice = Seen(), random.Random(seed)
    calm, done = asyncio.Event(), asyncio.Event()  # nothing strikes any more; nothing is asked any more
    prefix = f"soak-{uuid.uuid4().hex}-"
    options = [
        ("grpc.service_config", CONFIG),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        began = time.monotonic()
        load = [asyncio.create_task(_rank(channel, requests[i:] or requests, seen, done)) for i in range(clients)]
        load.append(asyncio.create_task(_record(channel, prefix, clock, seen, done)))
        load.append(asyncio.create_task(_look(memory, began, seen, done)))
        striking = asyncio.create_task(_strike(faults, dice, began, seconds, pause_s, hold_s, seen, calm))
        await asyncio.sleep(seconds)
        calm.set()
        await striking
        recovered = await _whole(seen)
        done.set()
        await asyncio.gather(*load)
    found = await asyncio.to_thread(kept, prefix)
    return verdict(seen, seconds, found, recovered=recovered)


def verdict(seen: Seen, seconds: float, found: int, *, recovered: bool) -> dict[str, Any]:
    """What came of it, as `soak` returns it.

    Args:
        seen: sums of the whole run.
        seconds: of load.
        found: acknowledged events that the log has.
        recovered: whether lists were whole again once nothing struck any more.
    """
    growth = growth_pct(seen.memory, warm_s=seconds / 5)
    figures = {
        "seconds": seconds,
        "calls": seen.calls,
        "failures": seen.failures.total(),
        "degraded_share": seen.degraded / max(seen.calls, 1),
        "faults": seen.struck.total(),
        "events": seen.acknowledged,
        "lost_events": max(seen.acknowledged - found, 0),
        "recovered": recovered,
    }
    wanted = {"calls": (">=", 1.0), "failures": ("<=", 0.0), "lost_events": ("<=", 0.0), "recovered": (">=", 1.0)}
    if growth is not None:
        figures["rss_growth_pct"] = growth
        if seconds >= _LONG_S:
            wanted["rss_growth_pct"] = ("<=", _GROWTH_PCT)
    said = report("soak", figures, wanted)
    detail = {"failures": dict(seen.failures), "degradations": dict(seen.degradations.most_common()), "faults": dict(seen.struck)}
    return said | {"detail": detail, "verdict": "passed" if all(said["met"].values()) else "failed"}


def growth_pct(memory: Mapping[int, Sequence[tuple[float, int]]], warm_s: float) -> float | None:
    """How much the process that grew most has grown, from when it was warm to its end; None where none lived long enough to tell.

    Args:
        memory: process -> (seconds, bytes) in order.
        warm_s: a process' first seconds do not count.
    """
    grown = []
    for samples in memory.values():
        first, last = samples[0][0] + warm_s, samples[-1][0]
        lived = [size for at, size in samples if at >= first]
        if last - first < warm_s or len(lived) < 4:
            continue
        part = max(len(lived) // 4, 1)
        grown.append(100.0 * (median(lived[-part:]) / median(lived[:part]) - 1.0))
    return max(grown, default=None)


async def _rank(channel: grpc.aio.Channel, requests: Sequence[pb.RankRequest], seen: Seen, done: asyncio.Event) -> None:
    rank = RankingServiceStub(channel).Rank
    turn = 0
    while not done.is_set():
        try:
            answer = await rank(requests[turn % len(requests)], timeout=_DEADLINE_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            seen.failures[error.code().name] += 1
        else:
            missing = [f"{d.component} {d.reason}" for d in answer.degradations if d.reason not in ("NOT_FOUND", "IGNORED")]
            seen.degradations.update(missing)
            seen.degraded += bool(missing)
            seen.whole = not missing
        seen.calls += 1
        turn += 1


async def _record(channel: grpc.aio.Channel, prefix: str, clock: Callable[[], float], seen: Seen, done: asyncio.Event) -> None:
    """One event at a time, each until it is acknowledged."""
    record = FeedbackServiceStub(channel).RecordEvents
    while not done.is_set():
        now = Timestamp(seconds=int(clock()))
        id_ = f"{prefix}{seen.acknowledged}"
        event = feedback_pb.Event(event_id=id_, type=feedback_pb.EVENT_TYPE_CLICK, event_time=now, user_id="soak", item_id="soak")
        try:
            answer = await record(feedback_pb.RecordEventsRequest(events=[event]), timeout=_DEADLINE_S, wait_for_ready=True)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.1)
        else:
            if not answer.accepted + answer.duplicates:
                raise RuntimeError(f"the event was rejected: {answer.rejected}")
            seen.acknowledged += 1


async def _look(memory: Callable[[], Mapping[int, int]], began: float, seen: Seen, done: asyncio.Event) -> None:
    while not done.is_set():
        for pid, size in (await asyncio.to_thread(memory)).items():
            seen.memory.setdefault(pid, []).append((time.monotonic() - began, size))
        await _within(done, _LOOK_S)


async def _strike(
    faults: Sequence[Fault],
    dice: random.Random,
    began: float,
    seconds: float,
    pause_s: tuple[float, float],
    hold_s: tuple[float, float],
    seen: Seen,
    calm: asyncio.Event,
) -> None:
    """Strike and mend until `calm`; what was struck is mended in any case."""
    while not await _within(calm, dice.uniform(*pause_s)):
        share = (time.monotonic() - began) / seconds
        possible = [fault for fault in faults if share <= fault.share]
        if possible:
            fault = dice.choice(possible)
            seen.struck[fault.name] += 1
            try:
                await asyncio.to_thread(fault.strike)
                await _within(calm, dice.uniform(*hold_s))
            finally:
                await asyncio.to_thread(fault.mend)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set, waited for."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


async def _whole(seen: Seen) -> bool:
    """Whether lists come whole again, waited for."""
    until = time.monotonic() + _WHOLE_S
    so_far = seen.calls
    while not (seen.whole and seen.calls > so_far):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.1)
    return True
