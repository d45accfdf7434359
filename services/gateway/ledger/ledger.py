"""Exposure and spending that all gateway processes share, as one of them holds it in memory.

A request reads and records in memory, in microseconds; a task exchanges what changed with the store a few times a second. Between two
exchanges a process knows its own lists and, of the others', those up to the last exchange. A store that does not answer never stops
serving: prices stay as they are known, what is to be reported waits, and `degradation` says so. A process killed with `kill -9` loses
at most what it recorded since its last exchange.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from operator import add
from typing import Any, Generic

from ranking.auction.pacing import Spend
from ranking.errors import Unavailable
from ranking.fairness.amortised import Account, Delta
from ranking.fairness.policy import Controller
from ranking.types import Degradation
from services.gateway.ledger.store import EXPOSURE, SPEND, Changes, D, Entry, Key, Kind, LedgerStore, R, Row, S

log = logging.getLogger(__name__)
_SMOOTH = 0.7  # of what was known of the others' traffic before an exchange stays known after it


class Book(Generic[S, D, R]):
    """Accounts of one kind: those of the store, and what was recorded here since. Changed on one thread, read on any.

    Where others serve the same groups, every process that pays all of a debt pays it several times over before they hear of one another.
    So a book counts each of its own lists, until the next exchange, as often as there were lists of all to one of its own lately
    (`Delta.__mul__`). The store gets what happened, as it happened.
    """

    def __init__(self, kind: Kind[S, D, R], clock: Callable[[], float]) -> None:
        """An empty one.

        Args:
            kind: of the accounts.
            clock: monotonic seconds.
        """
        self._kind = kind
        self._clock = clock
        self._view: dict[Key, tuple[S, float]] = {}  # account and when it was last settled, everything known counted
        self._stored: dict[Key, tuple[S, float]] = {}  # the same as the store had it
        self._waiting: dict[Key, tuple[tuple[float, ...], R]] = {}  # sums of what was recorded since the last exchange
        self._sending: dict[Key, float] = {}  # in an exchange whose outcome is not known, with the lists of each
        self._crowd = 1.0  # lists of all processes to one of ours

    def read(self, keys: Sequence[Key]) -> tuple[S, ...]:
        """(g,) accounts; one nothing is known of is zero."""
        view, unknown = self._view, (self._kind.zero, 0.0)
        return tuple([view.get(key, unknown)[0] for key in keys])

    def read_now(self, keys: Sequence[Key], rules: Sequence[R], nothing: D) -> tuple[S, ...]:
        """(g,) accounts as they are now: settled with `nothing` for the time since something was recorded."""
        now = self._clock()
        return tuple([self._settled(self._view.get(key), nothing, rule, now)[0] for key, rule in zip(keys, rules, strict=True)])

    def record(self, entries: Iterable[tuple[Key, D, R]]) -> None:
        """Count a list's changes, here at once and everywhere after the next exchange."""
        now = self._clock()
        view, waiting, numbers_of = self._view, self._waiting, self._kind.numbers
        for key, delta, rule in entries:
            numbers = numbers_of(delta)
            if not math.isfinite(sum(numbers)):  # it would poison the account for good
                log.error("ledger_delta_refused", extra={"kind": self._kind.name, "key": key, "delta": str(delta)})
                continue
            view[key] = self._settled(view.get(key), self._for_all(delta), rule, now)
            before = waiting.get(key)
            waiting[key] = (numbers if before is None else tuple(map(add, before[0], numbers)), rule)

    def items(self) -> list[tuple[Key, S]]:
        """All accounts known."""
        return [(key, state) for key, (state, _) in self._view.copy().items()]

    @property
    def waiting(self) -> int:
        """Accounts with something to be sent."""
        return len(self._waiting)

    def cut(self) -> list[Entry]:
        """What is to be sent; it counts as being sent until `merge`."""
        sent, self._waiting = self._waiting, {}
        self._sending = {key: numbers[0] for key, (numbers, _) in sent.items()}
        return [Entry(self._kind, key, self._kind.delta(*numbers), rule) for key, (numbers, rule) in sent.items()]

    def merge(self, rows: Mapping[Key, Row], *, all_of_them: bool) -> None:
        """Take over what the store says now, in which everything sent is counted.

        Args:
            rows: accounts that changed.
            all_of_them: what is not among them is gone.
        """
        now = self._clock()
        touched = {*rows, *self._sending}
        self._hear(rows)
        if all_of_them:
            touched |= self._view.keys()
            self._stored = {}
        self._sending = {}
        self._stored.update((key, (row.state, now - row.age_s)) for key, row in rows.items())
        for key in touched:
            known, waiting = self._stored.get(key), self._waiting.get(key)
            if waiting is not None:
                self._view[key] = self._settled(known, self._for_all(self._kind.delta(*waiting[0])), waiting[1], now)
            elif known is not None:
                self._view[key] = known
            else:
                self._view.pop(key, None)

    def _hear(self, rows: Mapping[Key, Row]) -> None:
        """Learn from an exchange how many lists of all there are to one of ours."""
        lists_of = self._kind.lists
        known = [key for key in rows if key in self._stored and key in self._sending]
        ours = sum(self._sending[key] for key in known)
        if lists_of is None or ours <= 0.0:
            return
        of_all = sum(lists_of(rows[key].state) - lists_of(self._stored[key][0]) for key in known)
        self._crowd = _SMOOTH * self._crowd + (1.0 - _SMOOTH) * max(of_all / ours, 1.0)

    def _for_all(self, delta: D) -> D:
        """A delta of ours as it counts here until the next exchange."""
        return delta if self._crowd == 1.0 else self._kind.delta(*(x * self._crowd for x in self._kind.numbers(delta)))

    def _settled(self, known: tuple[S, float] | None, delta: D, rule: R, now: float) -> tuple[S, float]:
        state, at = (self._kind.zero, now) if known is None else known
        return self._kind.settle(state, delta, rule, max(now - at, 0.0)), now


class Ledger:
    """The accounts and their exchange with the store; used on one event loop, but `accounts` and `spends`, which any thread may read."""

    def __init__(self, store: LedgerStore, *, sync_s: float, replica: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read before `start`.

        Args:
            store: shared by all gateways.
            sync_s: seconds between two exchanges, a fifth more or less by chance, so that replicas do not meet each time.
            replica: unique to this process; empty: drawn.
            clock: monotonic seconds.
        """
        self.exposure = Book(EXPOSURE, clock)
        self.spend = Book(SPEND, clock)
        self._books: tuple[Book[Any, Any, Any], ...] = (self.exposure, self.spend)
        self._kinds = (EXPOSURE.name, SPEND.name)
        self._store = store
        self._sync_s = sync_s
        self._replica = replica or uuid.uuid4().hex
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "ledger")  # its own: a store that hangs holds up nobody else
        self._lock = asyncio.Lock()
        self._entries: list[Entry] = []  # the batch being sent
        self._sequence = 0  # its number
        self._revision = 0  # of the store, as known here
        self._synced = clock()
        self._asked = asyncio.Event()  # the store was asked once
        self._problem = ""
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def accounts(self, keys: Sequence[Key]) -> tuple[Account, ...]:
        """(g,) exposure accounts, own lists up to now and those of others up to the last exchange."""
        return self.exposure.read(keys)

    def record(self, deltas: Mapping[Key, Delta], controller: Controller) -> None:
        """Count one list's exposure."""
        self.exposure.record((key, delta, controller) for key, delta in deltas.items())

    def spends(self, keys: Sequence[Key], budgets_micros: Sequence[float]) -> tuple[Spend, ...]:
        """(a,) advertisers' spending as of now, for budgets in micros per day."""
        return self.spend.read_now(keys, budgets_micros, 0.0)

    def record_spend(self, entries: Iterable[tuple[Key, float, float]]) -> None:
        """Count one list's spending: (advertiser, micros, budget in micros per day) of each that spent."""
        self.spend.record(entries)

    @property
    def problem(self) -> str:
        """Why the last exchange failed; empty: it did not."""
        return self._problem

    @property
    def stale_s(self) -> float:
        """Seconds since the last exchange that worked, or since this ledger was made."""
        return self._clock() - self._synced

    @property
    def failures(self) -> int:
        """Exchanges that failed."""
        return self._failures

    @property
    def degradation(self) -> Degradation | None:
        """What an answer must say of the store; None while it answers."""
        if not self._problem:
            return None
        known = f"as known {self.stale_s:.1f} s ago" if self._revision else "not known here yet"
        return Degradation("exposure", "UNAVAILABLE", f"{self._problem}; what other gateways served is {known}")

    async def start(self, wait_s: float) -> None:
        """Read everything and begin to exchange; returns after `wait_s` at the latest, then with the store's `problem` reported."""
        self._task = asyncio.create_task(self._run())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), wait_s)
        if not self._asked.is_set():
            self._problem = f"ledger: no answer within {wait_s:g} s"
            log.error("ledger_unavailable", extra={"detail": self._problem})

    async def close(self, wait_s: float = 5.0) -> None:
        """Send what is left, waiting for `wait_s` at most, and let go of the store."""
        if self._task is not None:
            self._task.cancel()
        sent = False
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                # Two at most: a batch whose outcome is not known, and what was recorded since. They run after the task's own exchange.
                sent = await self.sync() and (not any(book.waiting for book in self._books) or await self.sync())
        if not sent:
            log.error("ledger_not_sent", extra={"accounts": len(self._entries) + sum(book.waiting for book in self._books)})
        self._thread.submit(self._store.close)
        self._thread.shutdown(wait=False)

    async def sync(self) -> bool:
        """Exchange once; False: the store did not answer, and the same is sent again next time."""
        async with self._lock:
            if not self._entries:
                self._entries = [entry for book in self._books for entry in book.cut()]
                self._sequence += bool(self._entries)
            exchange = asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, self._sequence, self._entries)
            try:
                changes, anew = await exchange
            except Unavailable as error:
                self._failures += 1
                if str(error) != self._problem:
                    log.error("ledger_unavailable", extra={"detail": str(error)})
                self._problem = str(error)
                return False
            finally:
                self._asked.set()
            self._entries = []
            for name, book in zip(self._kinds, self._books, strict=True):
                book.merge({key: row for (kind, key), row in changes.rows.items() if kind == name}, all_of_them=anew)
            if self._problem:
                log.info("ledger_available", extra={"stale_s": round(self.stale_s, 3)})
            self._revision, self._synced, self._problem = changes.revision, self._clock(), ""
            return True

    def _exchange(self, sequence: int, entries: Sequence[Entry]) -> tuple[Changes, bool]:
        """On the ledger's thread: report, then read; and whether all was read, not just what changed."""
        if entries:
            self._store.add(self._replica, sequence, entries)
        since = self._revision
        changes = self._store.changes(since)
        if changes.revision < since:  # the store was emptied or went back in time
            log.error("ledger_lost", extra={"revision": changes.revision, "known": since})
            since = 0
            changes = self._store.changes(since)
        return changes, since == 0

    async def _run(self) -> None:
        while True:
            try:
                await self.sync()
            except Exception as error:  # the boundary of the task: ended, it would leave this process alone for good
                if repr(error) != self._problem:
                    log.exception("ledger_sync_failed")
                self._failures += 1
                self._problem = repr(error)
            await asyncio.sleep(self._sync_s * random.uniform(0.8, 1.2))
