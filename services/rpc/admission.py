"""A gate in front of each service, on the event loop: calls enter, wait or are refused; and who is at the door comes before who is in.

grpc.aio takes one call after the other, each in several turns of the loop. Whatever works between them holds up the taking, and calls then
wait where nobody sees them, until they are too late for anything: neither counted nor refused. So calls begin their work one by one, and
before each the loop turns until nobody new has come. The rules are `overload`'s; here are the futures and turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ranking.errors import Overloaded
from services.rpc.overload import Bounds, Gate

TICK_S = 0.025  # 40 a second cost nothing, and a window of four is a tenth of a second
_QUIET = 6  # turns of the loop in which nobody came: grpc.aio needs about four from one call to the next
_PATIENCE_S = 0.003  # longest that newcomers hold up a call's work, about as long as the work takes: else they would be all that is done
_IDLE_S = 0.001  # since the last call's work: nobody can have been waiting at the door


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
        self._ticking: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()
        self._came = 0  # calls, ever
        self._worked = 0.0  # when a call last began or ended, monotonic seconds

    def start(self) -> None:
        """Begin to look at the time."""
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Look no more; who waits is woken by those who leave."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)

    def came(self) -> None:
        """A call has come, of whatever service; to be told as early as possible."""
        self._came += 1

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
            if gate.bounds.target_s is not None:
                await self._turn(began)
                gate.waited(self._worked - began)
            yield
        finally:
            self._worked = time.monotonic()
            gate.leave(self._worked - began)

    async def _turn(self, asked: float) -> None:
        """Wait until this call's work may begin: its predecessors' has, and nobody is at the door."""
        idle = not self._beginning.locked() and asked - self._worked > _IDLE_S
        async with self._beginning:
            until, quiet, came = time.monotonic() + _PATIENCE_S, _QUIET if idle else 0, self._came
            while quiet < _QUIET and time.monotonic() < until:
                await asyncio.sleep(0)
                quiet, came = (quiet + 1, came) if self._came == came else (0, self._came)
            self._worked = time.monotonic()

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

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for gate in self._gates.values():
                gate.tick()
