"""Events durably taken in per second: FeedbackService on SQLite beside a bare echo of the same messages, each a process of its own.

Every client has its own channel and waits for each answer. Nothing is counted that was not acknowledged, and all of it has to be in the
log in the end.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from google.protobuf.timestamp_pb2 import Timestamp
from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2 as ranking_pb

from ranking.layout import Layout
from services.bench.feedback import ECHO
from services.bench.load import Load, send
from services.feedback.log.sqlite import SqliteLog

METHOD = "/longtail.feedback.v1.FeedbackService/RecordEvents"
CLIENTS = 16
CALLS = {1: 4000, 100: 400}  # events of a batch -> calls of a round
ROUNDS = 7


def figures(layout: Layout, quick: bool) -> dict[str, float]:
    """Events per second in batches of 1 and of 100, and how long a call took; medians over the rounds.

    Raises:
        RuntimeError: a call failed, or an acknowledged event is not in the log.
    """
    layout.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=layout.home, prefix="bench-events-") as folder:  # on the disk that events.db is on
        return asyncio.run(_figures(Path(folder) / "events.db", quick))


async def _figures(path: Path, quick: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    acknowledged = 0
    async with _server(str(path)) as ours, _server(ECHO) as echo:
        for size, full in CALLS.items():
            calls, rounds = (full // 10, 3) if quick else (full, ROUNDS)
            kept: list[Load[bytes]] = []
            bare: list[Load[bytes]] = []
            await _round(ours, size, CLIENTS)  # connections and file are made before anything is measured
            for _ in range(rounds):  # in turns, so that a machine that slows down slows both
                kept.append(await _round(ours, size, calls))
                bare.append(await _round(echo, size, calls))
            acknowledged += size * (CLIENTS + rounds * calls)
            found |= {
                f"events_per_s_{size}": median(size * one.rps for one in kept),
                f"echo_events_per_s_{size}": median(size * one.rps for one in bare),
                f"events_p50_ms_{size}": median(one.p50_ms for one in kept),
                f"events_p99_ms_{size}": median(one.p99_ms for one in kept),
            }
            found[f"events_vs_echo_{size}"] = found[f"events_per_s_{size}"] / found[f"echo_events_per_s_{size}"]
    log = SqliteLog(path)
    stored = sum(1 for _ in _all(log))
    log.close()
    if stored != acknowledged:
        raise RuntimeError(f"{acknowledged} events were acknowledged, {stored} are in the log")
    return found


async def _round(address: str, size: int, calls: int) -> Load[bytes]:
    payloads = [_batch(size) for _ in range(calls)]
    sent = await send(address, METHOD, iter(payloads), concurrency=CLIENTS, channels=CLIENTS)
    refused = sum(pb.RecordEventsResponse.FromString(answer).accepted != size for answer in sent.answers)
    if sent.failures or refused:
        raise RuntimeError(f"of {calls} calls to {address} {sent.failures} failed, and at least {refused} did not store every event")
    return sent


def _batch(size: int) -> bytes:
    """Serialised clicks with everything a click from a search list has."""
    now = Timestamp(seconds=int(time.time()))
    return pb.RecordEventsRequest(
        events=[
            pb.Event(
                event_id=uuid.uuid4().hex,
                type=pb.EVENT_TYPE_CLICK,
                event_time=now,
                user_id=f"user-{i:05d}",
                item_id=f"item-{i:07d}",
                surface=ranking_pb.SURFACE_SEARCH,
                query="frozen pizza",
                ranking_id="0" * 32,
                position=i + 1,
            )
            for i in range(size)
        ]
    ).SerializeToString()


def _all(log: SqliteLog) -> Iterator[str]:
    after = 0
    while rows := log.read(after, 10_000):
        yield from (row.event.event_id for row in rows)
        after = rows[-1].offset


@asynccontextmanager
async def _server(where: str) -> AsyncIterator[str]:
    """The address of `services.bench.feedback` in a process of its own, for as long as the context lasts."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.bench.feedback", where, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()
