"""A load client: prepared requests, a fixed number of calls under way, latencies out.

Requests are serialised and answers parsed outside the measured time, so that the client costs as little as a Python client can.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.types import FloatArray

METHOD = "/longtail.ranking.v1.RankingService/Rank"


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured."""

    latencies_ms: FloatArray  # (calls,) of successful calls
    seconds: float
    failures: int
    answers: tuple[pb.RankResponse, ...]  # of the last calls, at most 64

    @property
    def p50_ms(self) -> float:
        return float(np.percentile(self.latencies_ms, 50))

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.latencies_ms, 99))

    @property
    def rps(self) -> float:
        return len(self.latencies_ms) / self.seconds

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
    address: str, requests: Sequence[pb.RankRequest], *, concurrency: int, calls: int | None = None, seconds: float | None = None
) -> Load:
    """Send the requests in turn, `concurrency` at a time, until `calls` were sent or `seconds` have passed.

    Raises:
        RuntimeError: not one call succeeded; carries the last error.
    """
    payloads = [r.SerializeToString() for r in requests]
    latencies: list[float] = []
    answers: list[bytes] = []
    errors: list[grpc.aio.AioRpcError] = []
    sent = 0
    began = time.perf_counter()

    async with grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        rank: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)  # bytes in, bytes out
        await channel.channel_ready()

        async def worker() -> None:
            nonlocal sent
            while (calls is None or sent < calls) and (seconds is None or time.perf_counter() - began < seconds):
                payload = payloads[sent % len(payloads)]
                sent += 1
                at = time.perf_counter()
                try:
                    answer = await rank(payload, timeout=60)
                except grpc.aio.AioRpcError as error:
                    errors.append(error)
                    continue
                latencies.append((time.perf_counter() - at) * 1e3)
                answers.append(answer)
                if len(answers) > 64:
                    del answers[0]

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(concurrency)))
        took = time.perf_counter() - began
    if not latencies:
        raise RuntimeError(f"no call to {address} succeeded: {errors[-1] if errors else 'none was sent'}")
    return Load(np.array(latencies), took, len(errors), tuple(pb.RankResponse.FromString(a) for a in answers))
