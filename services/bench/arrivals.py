"""An open-loop load client: calls begin when they were meant to, however many are under way, and their time counts from then.

A closed loop waits for a slow server and so hides its slowness; users do not wait for one another. Arrivals are Poisson's.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import numpy as np

from ranking.types import FloatArray
from services.client.door import passing
from services.client.errors import RefusedHere
from services.client.throttle import Throttle

_LATE_S = 30.0  # beyond the last arrival, for answers still under way


@dataclass(frozen=True, slots=True)
class Offered:
    """What one run of arrivals measured."""

    latencies_ms: FloatArray  # (answered,) from the moment each was meant to begin; of answers that pass for one
    offered: int
    seconds: float  # in which they were offered
    failures: Counter[str]  # by status
    answers: tuple[bytes, ...]  # the last, at most 64
    held_back: int = 0  # by the throttle: never sent
    unfit: int = 0  # answers that do not pass for one

    def quantile_ms(self, q: float) -> float:
        """Latency that a share `q` of the answered calls keeps; infinite where none was answered."""
        return float(np.quantile(self.latencies_ms, q)) if len(self.latencies_ms) else float("inf")

    def good_per_s(self, within_ms: float) -> float:
        """Answers per second that came in time."""
        return float((self.latencies_ms <= within_ms).sum()) / self.seconds


async def offer(
    address: str,
    method: str,
    payloads: Iterator[bytes],
    *,
    rate: float,
    seconds: float,
    seed: int,
    channels: int = 4,
    timeout_s: float = 10.0,
    throttle: Throttle | None = None,
    fit: Callable[[bytes], bool] | None = None,
) -> Offered:
    """Send serialised requests at random moments.

    Args:
        address: of the server.
        method: `/service/method`.
        payloads: the requests, endless.
        rate: arrivals per second on average.
        seconds: how long they arrive.
        seed: of their moments.
        channels: connections they are spread over, which spreads them over workers.
        timeout_s: deadline of each call.
        throttle: of `RankingClient`: calls it holds back are not sent; None: all are.
        fit: whether an answer passes for one; None: all do.
    """
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1.0 / rate, max(int(2 * rate * seconds) + 10, 10))
    moments = np.cumsum(gaps)
    moments = moments[moments < seconds]
    latencies: list[float] = []
    failures: Counter[str] = Counter()
    held_back = unfit = 0
    answers: deque[bytes] = deque(maxlen=64)
    async with AsyncExitStack() as closing:
        calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = []
        for _ in range(channels):
            options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
            channel = await closing.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            await channel.channel_ready()
            calls.append(channel.unary_unary(method))

        async def one(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], payload: bytes, meant: float) -> None:
            nonlocal held_back, unfit
            try:
                with passing(throttle):
                    answer = await call(payload, timeout=timeout_s)
            except RefusedHere:
                held_back += 1
                return
            except grpc.aio.AioRpcError as error:
                failures[error.code().name] += 1
                return
            took_ms = (time.perf_counter() - meant) * 1e3
            answers.append(answer)
            if fit is None or fit(answer):
                latencies.append(took_ms)
            else:
                unfit += 1

        began = time.perf_counter()
        under_way: set[asyncio.Task[None]] = set()
        for i, moment in enumerate(moments.tolist()):
            wait = began + moment - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(one(calls[i % channels], next(payloads), began + moment))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            await asyncio.wait(under_way, timeout=min(timeout_s, _LATE_S) + 1.0)
    return Offered(np.array(latencies), len(moments), seconds, failures, tuple(answers), held_back, unfit)
