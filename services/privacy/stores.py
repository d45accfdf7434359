"""The stores of this machine that know users, opened as the gateway opens them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ranking.layout import Layout
from services.feature_store.feast import FeastStore
from services.feature_store.forget import forget
from services.feedback.log.event_log import EventLog
from services.feedback.log.sqlite import SqliteLog

_WAIT_S = 10.0  # nobody waits for a user to be forgotten as for a list


class OnlineStore:
    """Feast's online store, as `services.privacy.forget.Online`."""

    def __init__(self, repo: Path, home: Path) -> None:
        """Nothing is opened yet; arguments as for `FeastStore`."""
        self._store = FeastStore(repo, home)

    def forget(self, users: Sequence[str]) -> int:
        """See `services.privacy.forget.Online.forget`."""
        return forget(self._store, users)


@contextmanager
def of(layout: Layout, repo: Path, event_log: str) -> Iterator[tuple[EventLog, OnlineStore]]:
    """The event log and the online store.

    Args:
        layout: the state directory.
        repo: Feast's repository.
        event_log: the event log's Redis as a URL; empty: the SQLite file.
    """
    log: EventLog
    if event_log:
        from services.feedback.log.redis import RedisLog

        log = RedisLog(event_log, timeout_s=_WAIT_S)
    else:
        log = SqliteLog(layout.events, busy_s=_WAIT_S)
    try:
        yield log, OnlineStore(repo, layout.home)
    finally:
        log.close()
