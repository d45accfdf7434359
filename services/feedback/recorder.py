"""Group commit: calls that wait at the same time share one append, so that a fsync is paid once for all of them.

Knows neither the wire nor the store. The store is used on a thread of its own: one that hangs holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor

from ranking.errors import Unavailable
from services.feedback.log.event_log import EventLog
from services.feedback.types import Event, Outcome

GROUP = 2000  # events after which an append takes no further call; one call's events are never parted


class Recorder:
    """Hands events to a log, one append at a time; used on one event loop."""

    def __init__(self, log: EventLog, forgotten: Container[str] = ()) -> None:
        """Nothing is asked of the log yet.

        Args:
            log: keeps the events.
            forgotten: users whose events are refused, whatever the log knows of them: it may be a new one.
        """
        self._log, self._forgotten = log, forgotten
        self._thread = ThreadPoolExecutor(1, "events")
        self._counts = dict.fromkeys(Outcome, 0)
        self._waiting: dict[asyncio.Future[list[Outcome]], Sequence[Event]] = {}  # in the order they came
        self._task: asyncio.Task[None] | None = None

    async def append(self, events: Sequence[Event]) -> list[Outcome]:
        """As `EventLog.append`; cancelled while still waiting, the events are never handed over.

        Raises:
            Unavailable: as the log does.
        """
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = events
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)

    def counts(self) -> dict[Outcome, int]:
        """Events so far by what became of them."""
        return dict(self._counts)

    async def close(self) -> None:
        """Let go of the log once what it is doing is done; waits for nothing."""
        self._thread.submit(self._log.close)
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        """Append groups until nobody waits."""
        while self._waiting:
            group = self._group()
            events = [event for _, part in group for event in part]
            try:
                outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._append, events)
            except Exception as error:  # noqa: BLE001 - handed to everyone who waits for it
                for answer, _ in group:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for outcome in outcomes:
                self._counts[outcome] += 1
            at = 0
            for answer, part in group:
                if not answer.done():  # cancelled meanwhile
                    answer.set_result(outcomes[at : at + len(part)])
                at += len(part)
        self._task = None

    def _append(self, events: Sequence[Event]) -> list[Outcome]:
        """As `EventLog.append`, without those of forgotten users."""
        try:
            gone = {user for user in {event.user_id for event in events} if user in self._forgotten}
        except OSError as error:
            raise Unavailable(f"forgotten users: {error}") from None
        outcomes = iter(self._log.append([event for event in events if event.user_id not in gone] if gone else events))
        return [Outcome.FORGOTTEN if event.user_id in gone else next(outcomes) for event in events]

    def _group(self) -> list[tuple[asyncio.Future[list[Outcome]], Sequence[Event]]]:
        """The calls of the next append: at least one, and further ones while they fit."""
        group: list[tuple[asyncio.Future[list[Outcome]], Sequence[Event]]] = []
        size = 0
        for answer, events in self._waiting.items():
            if group and size + len(events) > GROUP:
                break
            group.append((answer, events))
            size += len(events)
        for answer, _ in group:
            del self._waiting[answer]
        return group
