"""Redis as the stores reach it: no call waits for ever or is repeated on its own, and failures are `Unavailable`.

The services' only module that knows the client library; what else of it a store needs is passed on from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ResponseError, WatchError
from redis.retry import Retry

from ranking.errors import Unavailable

__all__ = ["Pipeline", "ResponseError", "WatchError", "client", "translated", "understood"]


def client(url: str, timeout_s: float) -> redis.Redis:
    """A client; nothing is connected yet.

    Args:
        url: `redis://[user:password@]host:port/database`, `rediss://…` or `unix://…`.
        timeout_s: longest to wait for a connection or an answer.
    """
    return redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0))


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Whatever Redis or the network says becomes `Unavailable`, beginning with `what` is kept there."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise Unavailable(f"{what}: Redis: {error or type(error).__name__}") from None


@contextmanager
def understood(what: str) -> Iterator[None]:
    """An answer that is none becomes `Unavailable`, too: of another program at the address, or of a Redis whose keys another one uses.

    Around calls, since the client takes replies apart too, and around what takes them apart after it; not around what is made of arguments.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unavailable(f"{what}: Redis: its answer is none of a Redis, or not to what was asked: {error!r:.200}") from error
