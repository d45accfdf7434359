"""The event log as the comparison of a trial reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ranking.layout import Layout
from services.feedback.log.event_log import EventLog
from services.feedback.log.sqlite import SqliteLog

_WAIT_S = 5.0


@contextmanager
def opened(layout: Layout, redis: str = "") -> Iterator[EventLog | None]:
    """The event log, None where nobody has told an event yet.

    Args:
        layout: the state directory.
        redis: URL of the Redis it is in; empty: the file under the state directory.
    """
    if not redis and not layout.events.exists():  # reading would make it
        yield None
        return
    if redis:
        from services.feedback.log.redis import RedisLog

        log: EventLog = RedisLog(redis, timeout_s=_WAIT_S)
    else:
        log = SqliteLog(layout.events, busy_s=_WAIT_S)
    try:
        yield log
    finally:
        log.close()
