"""A load client: prepared requests, a fixed number of calls under way, latencies out.

Requests are serialised and answers parsed outside the measured time, so that the client costs as little as a Python client can.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Generic, TypeVar

import grpc
import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.types import FloatArray

METHOD = "/longtail.ranking.v1.RankingService/Rank"
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Load(Generic[A]):
    """What one run of calls measured."""

    latencies_ms: FloatArray  # (calls,) of successful calls
    seconds: float
    failures: int
    answers: tuple[A, ...]  # of the last calls, at most 64

    @property
    def p50_ms(self) -> float:
        return float(np.percentile(self.latencies_ms, 50))

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.latencies_ms, 99))

    @property
    def rps(self) -> float:
        return len(self.latencies_ms) / self.seconds


class RankLoad(Load[pb.RankResponse]):
    """Calls of Rank."""

    __slots__ = ()

    def stage_shares(self) -> dict[str, float]:
        """Mean share of each stage in the server's own total time."""
        shares: dict[str, list[float]] = {}
        for answer in self.answers:
            spent = {name: d.ToNanoseconds() for name, d in answer.stage_durations.items()}
            total = max(spent.pop("total", 0), 1)
            for name, ns in spent.items():
                shares.setdefault(name, []).append(ns / total)
        return {name: float(np.mean(values)) for name, values in shares.items()}

    def degraded_share(self) -> float:
        """Share of the kept answers that report any degradation."""
        return float(np.mean([bool(a.degradations) for a in self.answers])) if self.answers else 0.0


async def measure(
    address: str,
    requests: Sequence[pb.RankRequest],
    *,
    concurrency: int,
    calls: int | None = None,
    seconds: float | None = None,
    timeout_s: float = 60.0,
) -> RankLoad:
    """Send the requests in turn, `concurrency` at a time, until `calls` were sent or `seconds` have passed.

    Raises:
        RuntimeError: not one call succeeded; carries the last error.
    """
    payloads = cycle([r.SerializeToString() for r in requests])
    sent = await send(address, METHOD, islice(payloads, calls), concurrency=concurrency, seconds=seconds, timeout_s=timeout_s)
    return RankLoad(sent.latencies_ms, sent.seconds, sent.failures, tuple(pb.RankResponse.FromString(a) for a in sent.answers))


async def send(
    address: str,
    method: str,
    payloads: Iterator[bytes],
    *,
    concurrency: int,
    channels: int = 1,
    seconds: float | None = None,
    timeout_s: float = 60.0,
) -> Load[bytes]:
    """Send serialised requests in turn, `concurrency` at a time, until there are no more or `seconds` have passed.

    Args:
        address: of the server.
        method: `/service/method`.
        payloads: the requests.
        concurrency: calls under way.
        channels: connections they are spread over.
        seconds: after which no further call begins.
        timeout_s: deadline of each call.

    Raises:
        RuntimeError: not one call succeeded; carries the last error.
    """
    latencies: list[float] = []
    answers: deque[bytes] = deque(maxlen=64)
    errors: list[grpc.aio.AioRpcError] = []
    async with AsyncExitStack() as closing:
        opened: list[grpc.aio.Channel] = []
        for _ in range(channels):
            options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]  # a connection for each channel
            opened.append(await closing.enter_async_context(grpc.aio.insecure_channel(address, options=options)))
            await opened[-1].channel_ready()

        async def worker(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
            while seconds is None or time.perf_counter() - began < seconds:
                payload = next(payloads, None)
                if payload is None:
                    return
                at = time.perf_counter()
                try:
                    answer = await call(payload, timeout=timeout_s)
                except grpc.aio.AioRpcError as error:
                    errors.append(error)
                    continue
                latencies.append((time.perf_counter() - at) * 1e3)
                answers.append(answer)

        calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [channel.unary_unary(method) for channel in opened]
        began = time.perf_counter()
        await asyncio.gather(*(worker(calls[i % channels]) for i in range(concurrency)))
        took = time.perf_counter() - began
    if not latencies:
        raise RuntimeError(f"no call to {address} succeeded: {errors[-1] if errors else 'none was sent'}")
    return Load(np.array(latencies), took, len(errors), tuple(answers))
