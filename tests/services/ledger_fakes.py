"""A ledger's store in memory, and a clock that passes when told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ranking.errors import Unavailable
from services.gateway.ledger.store import Changes, Entry, Key, Row


class Clock:
    """Seconds that pass when told."""

    def __init__(self, now: float = 1e9) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Place:
    """Where fake stores keep accounts; calling it gives a store. `down` makes them fail: before or after the work is done."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        self.accounts: dict[tuple[str, Key], tuple[Any, float, int]] = {}  # state, updated, revision
        self.sequences: dict[str, int] = {}
        self.revision = 0
        self.down = ""
        self.batches: list[tuple[str, int, Sequence[Entry]]] = []
        self.hold = threading.Event()  # cleared: calls hang until it is set
        self.hold.set()

    def __call__(self) -> FakeLedgerStore:
        return FakeLedgerStore(self)


class FakeLedgerStore:
    """Passes `tests.suites.ledger_store`."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def add(self, replica: str, sequence: int, entries: Sequence[Entry]) -> None:
        place = self.place
        place.hold.wait(10)
        with place.lock:
            self._fail("before")
            place.batches.append((replica, sequence, entries))
            if place.sequences.get(replica, 0) < sequence:
                now, after = place.clock(), place.revision + 1
                settled = {}
                for kind, key, delta, rule in entries:
                    state, at, _ = place.accounts.get((kind.name, key), (kind.zero, now, 0))
                    settled[kind.name, key] = (kind.settle(state, delta, rule, now - at), now, after)
                place.accounts |= settled
                place.revision = after
                place.sequences[replica] = sequence
            self._fail("after")

    def changes(self, since: int) -> Changes:
        place = self.place
        place.hold.wait(10)
        with place.lock:
            self._fail("before")
            now = place.clock()
            found = {name: Row(state, now - at) for name, (state, at, revision) in place.accounts.items() if revision > since}
            return Changes(place.revision, found)

    def close(self) -> None:
        """Nothing is held."""

    def _fail(self, when: str) -> None:
        if self.place.down == when:
            raise Unavailable(f"ledger: down {when} it was done")


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition()` holds; the test's own timeout ends a vain wait."""
    while not condition():  # noqa: ASYNC110 - what is waited for knows no event
        await asyncio.sleep(0.005)
