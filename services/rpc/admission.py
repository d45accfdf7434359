"""A gate in front of each service, on the event loop: calls enter, wait or are refused, and the loop's delay is looked at.

The rules are `overload`'s; here are the futures and the one task that looks at the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ranking.errors import Overloaded
from services.rpc.overload import Bounds, Gate

LOOK_S = 0.025  # between two looks at the loop: 40 a second cost nothing, and a window of four is a tenth of a second


@dataclass(frozen=True, slots=True)
class Load:
    """What one service's gate says of itself."""

    running: int
    waiting: int
    limit: int
    refused: int  # since the start


class Admission:
    """Who may run. Lives on one event loop."""

    def __init__(self, bounds: Mapping[str, Bounds], default_s: float) -> None:
        """Nobody is in.

        Args:
            bounds: by full name of a service; calls of others enter uncounted.
            default_s: how long a caller who did not say waits for its answer.
        """
        self._gates = {name: Gate(of, time.monotonic) for name, of in bounds.items()}
        self._default_s = default_s
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look at the loop."""
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Look no more; who waits is woken by those who leave."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def load(self) -> dict[str, Load]:
        """Of every gate, by service."""
        return {name: Load(g.running, g.waiting, int(g.limit.value), g.refused) for name, g in self._gates.items()}

    @asynccontextmanager
    async def entered(self, service: str, left_s: float | None) -> AsyncIterator[None]:
        """A call of a service, from being let in to its end.

        Args:
            service: its full name.
            left_s: seconds until the caller's deadline; None: it has none.

        Raises:
            Overloaded: it may not, or not in time.
        """
        gate = self._gates.get(service)
        if gate is None:
            yield
            return
        await self._enter(gate, self._default_s if left_s is None else left_s)
        began = time.monotonic()
        try:
            yield
        finally:
            gate.leave(time.monotonic() - began)

    @staticmethod
    async def _enter(gate: Gate, left_s: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(refused: Overloaded | None) -> bool:
            if turn.done():  # its caller left
                return False
            if refused is None:
                turn.set_result(None)
            else:
                turn.set_exception(refused)
            return True

        place = gate.ask(left_s, wake)
        if place is None:
            return
        try:
            await turn
        except asyncio.CancelledError:
            gate.withdraw(place)
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # left in the moment it was let in
                gate.leave(0.0)
            raise

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            began = time.monotonic()
            await asyncio.sleep(0)  # back when everything that could run has run once: a whole turn, wherever in it the timer fell
            turn_s = time.monotonic() - began
            for gate in self._gates.values():
                gate.looked(turn_s)
