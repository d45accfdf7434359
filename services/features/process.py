"""The feature process' wiring: every part is made and connected here and nowhere else."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import ExitStack
from typing import Any, Protocol

from ranking.errors import LongtailError
from ranking.features import Entity
from ranking.layout import Layout
from services.feature_store.feast import FeastStore
from services.features import keeper, stream
from services.features.follower import Follower
from services.features.keeper import Keeper
from services.features.metrics import FeatureMetrics
from services.features.settings import Settings
from services.feedback.log.event_log import EventLog
from services.feedback.log.sqlite import SqliteLog
from services.privacy import forget as privacy
from services.privacy.forget import forget_again
from services.privacy.forgotten import Forgotten
from services.rpc import status, tls
from services.rpc.scraping import scraped
from services.snapshot.writer import Writer

log = logging.getLogger(__name__)
_SAY_S = 0.5
_STOP_S = 1.0  # for what is under way; what is cut short is no worse than after `kill -9`


class Store(keeper.Store, stream.Store, privacy.Store, Protocol):
    """What the process needs from a feature store."""


def keep(settings: Settings, *, store: Store | None = None, events: EventLog | None = None, stop: threading.Event | None = None) -> bool:
    """Keep the snapshot, and make features of events, until SIGTERM or SIGINT.

    Args:
        settings: all of it.
        store: in place of Feast.
        events: in place of SQLite or Redis.
        stop: in place of the signals.

    Returns:
        Whether everything ended; False: something does not within a moment, and only the end of the process will end it. The
        snapshot's lock is then still held.

    Raises:
        SnapshotTakenError: another process keeps this snapshot.
        PortTakenError: the address of the metrics is in use.
    """
    stop = stop or _stop_signal()
    layout = Layout(settings.home)
    told = layout.run / "features.json"
    writer = Writer(layout.item_snapshot)
    if writer.problem:
        log.info("snapshot_absent", extra={"detail": writer.problem})
    forgotten = Forgotten(layout.forgotten)
    keeping = _Keeping(settings, store or FeastStore(settings.feature_repo, settings.home), writer, forgotten, stop)
    fixed, metrics = settings.fixed_time, FeatureMetrics()
    follower = Follower(
        layout,
        events or _events(settings, layout),
        store or FeastStore(settings.feature_repo, settings.home),  # one of its own: a store is used by one thread
        keeping.keeper,
        forgotten,
        stop,
        poll_s=settings.event_poll_s,
        look_s=settings.registry_poll_s,
        keep_s=settings.pushed_keep_days * 86400,
        metrics=metrics,
        clock=time.time if fixed is None else lambda: fixed,
    )
    metrics.follow(follower.status, keeping.snapshot_age_s)
    # Threads that do not keep the process alive: reading Feast takes seconds now and then, and signals reach the main thread at once.
    threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in (("keeper", keeping.run), ("stream", follower.run))]
    exposing = ExitStack()
    try:
        address = ""
        if settings.feature_metrics_address != "off":
            address = exposing.enter_context(scraped(settings.feature_metrics_address, metrics.registry, tls.named(settings, "metrics")))
        for thread in threads:
            thread.start()
        ended = False
        while not ended:
            status.write(told, **keeping.status(), stream=follower.status(), metrics=address, at=time.time())
            ended = stop.wait(_SAY_S)
        deadline = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
    finally:
        status.remove(told)
        exposing.close()
    if any(thread.is_alive() for thread in threads):
        return False
    writer.close()
    return True


class _Keeping:
    """Lets the keeper look now and then, and outlives whatever fails."""

    def __init__(self, settings: Settings, store: Store, writer: Writer, forgotten: Forgotten, stop: threading.Event) -> None:
        self._store, self._forgotten = store, forgotten
        self.keeper = Keeper(
            store,
            writer,
            refresh_s=settings.snapshot_refresh_s,
            stale_s=settings.snapshot_stale_s,
            batch=settings.read_batch,
            stop=stop,
        )
        self._poll_s, self._stop, self._failure = settings.registry_poll_s, stop, ""

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                if self.keeper.look() and len(self._forgotten):  # the store may have been written by those who know no tombstones
                    forget_again(self._store, self._store.ids(Entity.USER), self._forgotten)
                self._failure = ""
            except Exception as error:  # the thread's boundary: ended, it would leave the gateways an ever older snapshot
                said = str(error) or type(error).__name__
                if said != self._failure:  # once while it goes on failing alike
                    log.error("snapshot_failed", exc_info=not isinstance(error, LongtailError), extra={"detail": said})
                self._failure = said
            self._stop.wait(self._poll_s)

    def snapshot_age_s(self) -> float:
        """Seconds since the store had what the snapshot says; NaN while there is none."""
        now = self.keeper.snapshot
        return time.time() - now.as_of if now else float("nan")

    def status(self) -> dict[str, Any]:
        """Whether there is a snapshot, and why it is not made anew: for `longtail up` and `status`."""
        now = self.keeper.snapshot
        held = {"generation": now.header.generation, "items": len(now), "as_of": now.as_of} if now else {}
        return {"ready": now is not None, "error": self._failure, **held}


def _events(settings: Settings, layout: Layout) -> EventLog:
    if not settings.event_log:
        return SqliteLog(layout.events, busy_s=settings.event_wait_s)
    from services.feedback.log.redis import RedisLog

    return RedisLog(settings.event_log, timeout_s=settings.event_wait_s)


def _stop_signal() -> threading.Event:
    """An event that SIGTERM or SIGINT sets."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    return asked
