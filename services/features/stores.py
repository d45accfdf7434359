"""The stores that know users, opened for whoever forgets one, as the processes open them. Knows not how they forget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ranking.layout import Layout
from services.feature_store.feast import FeastStore
from services.features.state import State
from services.feedback.log.event_log import EventLog
from services.feedback.log.sqlite import SqliteLog
from services.privacy.forget import Stores

_WAIT_S = 10.0  # nobody waits for a user to be forgotten as for a list


@contextmanager
def opened(layout: Layout, repo: Path, event_log: str) -> Iterator[Stores]:
    """The stores, until the context ends.

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
    state = State(layout.feature_state, busy_s=_WAIT_S)
    try:
        yield {"event log": log, "feature state": state, "online store": FeastStore(repo, layout.home)}
    finally:
        state.close()
        log.close()
