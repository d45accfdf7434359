"""The ledger's store beyond one machine: Redis.

Transactions are optimistic (WATCH, MULTI, EXEC on the revision): a batch that meets another's is settled again on what that one left.
What survives a restart of Redis is its own setting (`appendonly yes` for all that was acknowledged); an emptied Redis counts anew.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from ranking.errors import Unavailable
from services.gateway.ledger.store import KINDS, Changes, Entry, Key, Row
from services.stores.redis import Pipeline, WatchError, client, translated, understood

_PREFIX = "longtail:ledger:1"  # 1: of this layout
_STATES = f"{_PREFIX}:states"  # hash: account -> JSON [state, updated]
_CHANGED = f"{_PREFIX}:changed"  # sorted set: account by the revision of its last change
_REVISION = f"{_PREFIX}:revision"
_FORGET_S = 7 * 86_400  # a replica silent for so long will not come back with a batch it is unsure of
_PAUSE_S = 0.002  # mean pause before a batch that met another's is tried again


class RedisStore:
    """Accounts in one Redis database."""

    def __init__(self, url: str, *, timeout_s: float = 1.0, retry_s: float = 2.0, clock: Callable[[], float] | None = None) -> None:
        """Nothing is connected yet.

        Args:
            url: `redis://[user:password@]host:port/database`, `rediss://…` or `unix://…`.
            timeout_s: longest to wait for a connection or an answer.
            retry_s: longest to try again while others are writing.
            clock: seconds since 1970; None: Redis's own, one for all replicas.
        """
        self._redis = client(url, timeout_s)
        self._retry_s = retry_s
        self._clock = clock

    def add(self, replica: str, sequence: int, entries: Sequence[Entry]) -> None:
        """As `LedgerStore.add`."""
        deadline = time.monotonic() + self._retry_s
        with translated("ledger"), self._redis.pipeline() as pipe:
            while True:
                try:
                    self._try_add(pipe, f"{_PREFIX}:replica:{replica}", sequence, entries)
                except WatchError:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"ledger: Redis: other replicas were writing for {self._retry_s:g} s") from None
                    time.sleep(random.uniform(0.0, 2.0 * _PAUSE_S))  # two that collided do not again
                else:
                    return

    def _try_add(self, pipe: Pipeline, replica: str, sequence: int, entries: Sequence[Entry]) -> None:
        pipe.watch(_REVISION)  # type: ignore[no-untyped-call]  # every batch changes it
        # After `watch` commands answer at once, until `multi`; the client's types do not tell.
        with understood("ledger"):
            known, revision = cast("list[bytes | None]", pipe.mget(replica, _REVISION))
            if known is not None and int(known) >= sequence:
                pipe.unwatch()
                return
            names = [json.dumps((kind.name, *key), ensure_ascii=False) for kind, key, _, _ in entries]
            states = cast("list[bytes | None]", pipe.hmget(_STATES, names)) if names else []
            found = [text for text, _ in zip(states, names, strict=True)]
            now, after = self._now(), int(revision or 0) + 1
        settled: dict[str, str] = {}
        for name, text, (kind, _, delta, rule) in zip(names, found, entries, strict=True):
            state, updated = (kind.zero, now) if text is None else _parsed(kind, text)
            settled[name] = json.dumps((kind.encode(kind.settle(state, delta, rule, max(now - updated, 0.0))), now))
        pipe.multi()
        if settled:
            pipe.hset(_STATES, mapping=cast("dict[str | bytes, Any]", settled))
            pipe.zadd(_CHANGED, cast("dict[Any, float]", dict.fromkeys(names, after)))
        pipe.set(_REVISION, after)
        pipe.set(replica, sequence, ex=_FORGET_S)
        pipe.execute()

    def changes(self, since: int) -> Changes:
        """As `LedgerStore.changes`."""
        with translated("ledger"), understood("ledger"):
            # The revision first: what changes between the two reads is read again next time, never missed.
            revision = int(cast("bytes | None", self._redis.get(_REVISION)) or 0)
            names = cast("list[bytes]", self._redis.zrange(_CHANGED, f"({since}", "+inf", byscore=True))
            found = cast("list[bytes | None]", self._redis.hmget(_STATES, cast("list[str]", names))) if names else []
            now = self._now()
            rows: dict[tuple[str, Key], Row] = {}
            for name, text in zip(names, found, strict=True):
                kind, *key = json.loads(name)
                if text is not None and kind in KINDS:
                    state, updated = _parsed(KINDS[kind], text)
                    rows[kind, Key(*key)] = Row(state, now - updated)
        return Changes(revision, rows)

    def close(self) -> None:
        """As `LedgerStore.close`."""
        self._redis.close()

    def _now(self) -> float:
        if self._clock is not None:
            return self._clock()
        seconds, micros = cast("tuple[int, int]", self._redis.time())
        return seconds + micros / 1e6


def _parsed(kind: Any, text: bytes) -> tuple[Any, float]:
    try:
        state, updated = json.loads(text)
        return kind.decode(state), float(updated)
    except (ValueError, TypeError) as wrong:
        raise Unavailable(f"ledger: Redis: holds no {kind.name} account but {text[:80]!r}: {wrong}") from None
