"""Load for tests of faults: lists ranked and events recorded without a pause, every answer and every failure kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from longtail.feedback.v1 import feedback_service_pb2 as feedback_pb
from longtail.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from tests.services.feedback.fakes import message
from tests.services.gateway_fakes import eventually, reasons, search

ITEMS = 20


@dataclass
class Traffic:
    """What came of the calls so far."""

    answers: list[pb.RankResponse] = field(default_factory=list)
    failures: list[grpc.aio.AioRpcError] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    refused: list[grpc.aio.AioRpcError] = field(default_factory=list)  # calls that recorded events

    async def more(self, lists: int = 10) -> None:
        """Return once so many more lists were answered, or one was not."""
        wanted = len(self.answers) + lists
        await eventually(lambda: len(self.answers) >= wanted or self.failures)

    async def seen(self, component: str) -> None:
        """Return once an answer to come names this part as missing, or a call fails."""
        so_far = len(self.answers)
        await eventually(lambda: any(component in reasons(a) for a in self.answers[so_far:]) or self.failures)

    async def whole(self) -> None:
        """Return once an answer to come misses nothing, or a call fails."""
        so_far = len(self.answers)
        await eventually(lambda: any(not a.degradations for a in self.answers[so_far:]) or self.failures)

    async def recorded(self) -> None:
        """Return once one more event was acknowledged."""
        so_far = len(self.acknowledged)
        await eventually(lambda: len(self.acknowledged) > so_far)

    def ranked(self) -> None:
        """No call failed, and every list came back whole in its length."""
        assert not self.failures, self.failures[0]
        assert {len(a.results.item_ids) for a in self.answers} == {ITEMS}


@asynccontextmanager
async def traffic(
    channel: grpc.aio.Channel, *, clients: int = 3, events: bool = False, deadline_s: float | None = 120.0
) -> AsyncIterator[Traffic]:
    """Calls while the context lasts.

    Args:
        channel: to the gateway.
        clients: lists ranked at once, each with a query of its own now and then, so that texts are scored all the time.
        events: one more client records an event at a time.
        deadline_s: of each call; None: no call has one.
    """
    found, done = Traffic(), asyncio.Event()

    async def rank(client: int) -> None:
        turn = 0
        while not done.is_set():
            request = search(ITEMS, query=f"ice {client} {turn // 3}")
            try:
                found.answers.append(await RankingServiceStub(channel).Rank(request, timeout=deadline_s, wait_for_ready=True))
            except grpc.aio.AioRpcError as error:
                found.failures.append(error)
            turn += 1

    async def record() -> None:
        turn = 0
        while not done.is_set():
            event = message(f"event-{turn}")
            try:
                await FeedbackServiceStub(channel).RecordEvents(
                    feedback_pb.RecordEventsRequest(events=[event]), timeout=deadline_s, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                found.refused.append(error)
                await asyncio.sleep(0.01)
            else:
                found.acknowledged.add(event.event_id)
                turn += 1

    tasks = [asyncio.create_task(rank(i)) for i in range(clients)] + ([asyncio.create_task(record())] if events else [])
    try:
        yield found
    finally:
        done.set()
        await asyncio.gather(*tasks)
