"""The feature process' wiring: every part is made and connected here and nowhere else."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

from ranking.errors import LongtailError
from ranking.layout import Layout
from services.feature_store.feast import FeastStore
from services.features.keeper import Keeper, Store
from services.features.settings import Settings
from services.rpc import status
from services.snapshot.writer import Writer

log = logging.getLogger(__name__)


def keep(settings: Settings, *, store: Store | None = None, stop: threading.Event | None = None) -> None:
    """Keep the snapshot until SIGTERM or SIGINT.

    Args:
        settings: all of it.
        store: in place of Feast.
        stop: in place of the signals.

    Raises:
        SnapshotTakenError: another process keeps this snapshot.
    """
    stop = stop or _stop_signal()
    layout = Layout(settings.home)
    told = layout.run / "features.json"
    with Writer(layout.item_snapshot) as writer:
        if writer.problem:
            log.info("snapshot_absent", extra={"detail": writer.problem})
        source = store or FeastStore(settings.feature_repo, settings.home)
        keeper = Keeper(source, writer, refresh_s=settings.snapshot_refresh_s, batch=settings.read_batch, stop=stop)
        failure = ""
        try:
            while not stop.is_set():
                _say(told, writer, failure)
                try:
                    keeper.look()
                    failure = ""
                except Exception as error:  # the process' boundary: ended, it would leave the gateways an ever older snapshot
                    said = str(error) or type(error).__name__
                    if said != failure:  # once while it goes on failing alike
                        log.error("snapshot_failed", exc_info=not isinstance(error, LongtailError), extra={"detail": said})
                    failure = said
                _say(told, writer, failure)
                stop.wait(settings.registry_poll_s)
        finally:
            status.remove(told)


def _say(told: Path, writer: Writer, failure: str) -> None:
    """Tell `longtail up` and `status` whether there is a snapshot, and why it is not made anew."""
    now = writer.snapshot
    held = {"generation": now.header.generation, "items": len(now), "as_of": now.as_of} if now else {}
    status.write(told, ready=now is not None, error=failure, **held)


def _stop_signal() -> threading.Event:
    """An event that SIGTERM or SIGINT sets."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    return asked
