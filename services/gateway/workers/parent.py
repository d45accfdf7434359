"""The parent of N gateway processes on one port: holds the port, starts each as a fresh program, and starts again what dies.

A worker is never forked: gRPC does not survive that. It is told by its standard input, a pipe nobody writes to, when its parent is no
more: however the parent dies the kernel closes the other end, and the worker drains. Knows no gRPC and nothing of what a worker does.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress

from prometheus_client import CollectorRegistry

from ranking.layout import Layout
from services.gateway.metrics_http import exposed
from services.gateway.settings import Settings
from services.gateway.workers.port import held
from services.gateway.workers.scrape import WorkerMetrics
from services.gateway.workers.told import left, read, summary, told
from services.rpc import status, tls
from services.rpc.signals import stop_signal

log = logging.getLogger(__name__)
REFUSED = 2
"""Exit status of a worker that cannot start as asked, and would not the next time."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0
_LOOK_S = 0.1  # how soon the summary follows what workers say
_LEFT_S = 0.5
_STOP_S = 10.0  # beyond drain and grace, for a worker that is still starting or closing its stores

Command = Callable[[int, str], Sequence[str]]
"""(worker, address) -> the program that is one."""


class WorkerError(RuntimeError):
    """The workers cannot be kept running."""


class RefusedError(WorkerError):
    """A worker cannot start as asked; it said why itself."""


class CrashLoopError(WorkerError):
    """A worker dies again and again at its start."""


def command(arguments: Sequence[str], settings: Settings) -> Command:
    """A worker is this program with the same arguments, but on the parent's port and with a scrape page of its own on loopback."""
    page = "off" if settings.metrics_address == "off" else "127.0.0.1:0"

    def of(worker: int, address: str) -> Sequence[str]:
        own = ["--workers", "1", "--worker", str(worker), "--address", address, "--reuse-port", "true", "--metrics-address", page]
        own += ["--metrics-cert", "", "--metrics-key", "", "--metrics-client-ca", ""]  # that page is read by this process alone
        own += ["--caller-limits-split", str(settings.caller_limits_split * settings.workers)]  # limits of callers are the machine's
        return [sys.executable, "-m", "services.gateway", *arguments, *own]

    return of


async def run(settings: Settings, program: Command) -> None:
    """Keep `settings.workers` workers until SIGTERM or SIGINT, then have all of them drain.

    Raises:
        PortTakenError: an address is in use.
        RefusedError: a worker ended with `REFUSED`.
        CrashLoopError: one died more than `worker_crashes` times in a row within `worker_settled_s` of its start.
    """
    asked = stop_signal()
    layout = Layout(settings.home)
    await _without_left(layout, settings)
    async with AsyncExitStack() as closing:
        address = closing.enter_context(held(settings.address))
        workers = Workers(settings, program, address)
        page = ""
        if settings.metrics_address != "off":
            registry = CollectorRegistry()
            registry.register(WorkerMetrics(workers.pages, lambda: dict(workers.restarts)))
            page = await closing.enter_async_context(exposed(settings.metrics_address, registry, tls.named(settings, "metrics")))
        closing.callback(status.remove, told(layout, 0))
        telling = asyncio.create_task(_tell(layout, workers, address, page))
        closing.callback(telling.cancel)
        log.info("workers", extra={"address": address, "metrics": page, "workers": settings.workers})
        await workers.keep(asked)


async def _without_left(layout: Layout, settings: Settings) -> None:
    """Wait for workers of a parent that was killed to have drained: until then the port is theirs."""
    until = time.monotonic() + _stop_s(settings)
    while (pids := left(layout, settings.address)) and time.monotonic() < until:
        log.info("waiting_for_workers", extra={"address": settings.address, "pids": pids})
        await asyncio.sleep(_LEFT_S)


def _stop_s(settings: Settings) -> float:
    """Longest a worker may take to stop."""
    return settings.drain_s + settings.grace_s + settings.ledger_wait_s + _STOP_S


async def _tell(layout: Layout, workers: Workers, address: str, page: str) -> None:
    """Write what the workers are as one whenever it changes."""
    before = None
    while True:
        now = summary(address, page, workers.said(), restarting=workers.restarting())
        if now != before:
            try:
                status.write(told(layout, 0), **now)
                before = now
            except OSError:  # a full disk: told once it is not
                log.exception("status_not_written")
        await asyncio.sleep(_LOOK_S)


class Workers:
    """The processes."""

    def __init__(self, settings: Settings, program: Command, address: str) -> None:
        """Nothing is started yet."""
        self._settings, self._program, self._address = settings, program, address
        self._layout = Layout(settings.home)
        self._numbers = range(1, settings.workers + 1)
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self.restarts = dict.fromkeys(self._numbers, 0)

    async def keep(self, asked: asyncio.Event) -> None:
        """Run all of them until `asked` is set or they cannot be kept; none is left when it returns or raises.

        Raises:
            RefusedError, CrashLoopError: as `run`.
        """
        keepers = [asyncio.create_task(self._keep(number, asked)) for number in self._numbers]
        stop = asyncio.create_task(asked.wait())
        try:
            done, _ = await asyncio.wait([stop, *keepers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            asked.set()
            stop.cancel()
            await self._stop(keepers)

    def said(self) -> list[dict[str, object] | None]:
        """(n,) what each says of itself now."""
        return [
            read(self._layout, number, process.pid) if (process := self._running.get(number)) is not None else None
            for number in self._numbers
        ]

    def restarting(self) -> list[int]:
        """Those that died and have not said since that they are ready."""
        return [n for n, one in zip(self._numbers, self.said(), strict=True) if self.restarts[n] and not (one and one.get("ready"))]

    def pages(self) -> dict[int, str]:
        """Where each is scraped; empty where it says nothing."""
        return {n: str(one.get("metrics", "")) if one else "" for n, one in zip(self._numbers, self.said(), strict=True)}

    async def _keep(self, number: int, stop: asyncio.Event) -> None:
        in_a_row, settled_s = 0, self._settings.worker_settled_s
        while not stop.is_set():
            status.remove(told(self._layout, number))  # of a process that was killed
            began = time.monotonic()
            # A pipe that nobody writes to; asyncio holds its end for as long as this process lives.
            process = await asyncio.create_subprocess_exec(*self._program(number, self._address), stdin=asyncio.subprocess.PIPE)
            self._running[number] = process
            if stop.is_set():  # told while it was being started
                process.terminate()
            code = await process.wait()
            del self._running[number]
            if stop.is_set():
                return
            if code == REFUSED:
                raise RefusedError(f"worker {number} cannot start as asked")
            in_a_row = 1 if time.monotonic() - began >= settled_s else in_a_row + 1
            if in_a_row > self._settings.worker_crashes:
                died = f"worker {number} died {in_a_row} times in a row within {settled_s:g} s of its start, last with status {code}"
                raise CrashLoopError(f"{died}; the log says why")
            pause = min(_FIRST_PAUSE_S * 2 ** (in_a_row - 1), _LONGEST_PAUSE_S)
            self.restarts[number] += 1
            log.error("worker_died", extra={"worker": number, "status": code, "again_in_s": pause})
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def _stop(self, keepers: Sequence[asyncio.Task[None]]) -> None:
        """Have all of them drain; those that do not end are killed."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()
        _, late = await asyncio.wait(keepers, timeout=_stop_s(self._settings))
        for number, process in list(self._running.items()):
            log.error("worker_killed", extra={"worker": number, "pid": process.pid})
            with suppress(ProcessLookupError):
                process.kill()
        if late:
            await asyncio.wait(late)
        await asyncio.gather(*keepers, return_exceptions=True)  # a second one's error is no news
