"""The event log beyond one machine: Redis.

A stream has the order, a hash what the events say: a stream keeps the bytes of entries that are deleted from it.

How durable an acknowledged event is is the server's setting: with `appendonly yes` and `appendfsync always` it is on the server's disk;
with `everysec` it survives `kill -9`, a power cut may take the last second's; both are said at opening. A server that keeps nothing, or
may evict keys, is refused. Replicas are written after the answer: a failover may lose what only the old primary had.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from ranking.errors import Unavailable
from ranking.privacy import tombstone
from services.feedback.log.event_log import Head, Row, Unreadable, decoded
from services.feedback.types import Event, Outcome
from services.stores.redis import ResponseError, client, translated, understood

log = logging.getLogger(__name__)
_WHAT = "event log"
_PREFIX = "{longtail:events:1}"  # 1: of this layout; braces: one slot of a cluster
_KEYS = [
    f"{_PREFIX}:order",  # stream: one entry per event, its id is the offset; says when, and nothing of the content
    f"{_PREFIX}:ids",  # hash: event id -> offset
    f"{_PREFIX}:contents",  # hash: offset -> JSON of the event's fields
    f"{_PREFIX}:forgotten",  # set: tombstones
    f"{_PREFIX}:last",  # the last offset given
    f"{_PREFIX}:identity",  # drawn by whoever asks first
]
_USER = f"{_PREFIX}:user:"  # + tombstone, set: offsets of a user's events
_APPEND = """
local out = {}
for i = 3, #ARGV, 3 do
  local id, user, content = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known = redis.call('HGET', KEYS[2], id)
  if user ~= '' and redis.call('SISMEMBER', KEYS[4], user) == 1 then
    out[#out + 1] = 'forgotten'
  elseif known then
    out[#out + 1] = redis.call('HGET', KEYS[3], known) == content and 'duplicate' or 'conflict'
  else
    local offset = string.format('%.0f', redis.call('INCR', KEYS[5]))
    redis.call('XADD', KEYS[1], offset .. '-0', 'at', ARGV[2])
    redis.call('HSET', KEYS[2], id, offset)
    redis.call('HSET', KEYS[3], offset, content)
    if user ~= '' then redis.call('SADD', ARGV[1] .. user, offset) end
    out[#out + 1] = 'stored'
  end
end
return out
"""
_READ = """
local out = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])) do
  local offset = string.match(entry[1], '%d+')
  out[#out + 1] = offset
  out[#out + 1] = redis.call('HGET', KEYS[3], offset)
  out[#out + 1] = entry[2][2]
end
return out
"""
_HEAD = """
redis.call('SET', KEYS[6], ARGV[1], 'NX')
return {redis.call('GET', KEYS[6]), redis.call('GET', KEYS[5]) or '0'}
"""
_FORGET = """
local removed = 0
for i = 2, #ARGV do
  redis.call('SADD', KEYS[4], ARGV[i])
  for _, offset in ipairs(redis.call('SMEMBERS', ARGV[1] .. ARGV[i])) do
    redis.call('HDEL', KEYS[2], cjson.decode(redis.call('HGET', KEYS[3], offset))[1])
    redis.call('HDEL', KEYS[3], offset)
    redis.call('XDEL', KEYS[1], offset .. '-0')
    removed = removed + 1
  end
  redis.call('DEL', ARGV[1] .. ARGV[i])
end
return removed
"""


class RedisLog:
    """Events in one Redis database."""

    def __init__(self, url: str, *, timeout_s: float = 2.0, rewrite_s: float = 300.0) -> None:
        """Nothing is connected yet.

        Args:
            url: `redis://[user:password@]host:port/database`, `rediss://…` or `unix://…`.
            timeout_s: longest to wait for a connection or an answer.
            rewrite_s: longest `forget` waits for Redis to write its files anew.
        """
        self._redis = client(url, timeout_s)
        scripts = (self._redis.register_script(code) for code in (_APPEND, _READ, _HEAD, _FORGET))
        self._append, self._read, self._head, self._forget = scripts
        self._rewrite_s = rewrite_s
        self._checked = False

    def append(self, events: Sequence[Event]) -> list[Outcome]:
        """As `EventLog.append`."""
        arguments: list[str | bytes] = [_USER, str(time.time_ns())]
        for event in events:
            arguments += (event.event_id, tombstone(event.user_id) if event.user_id else b"", _content(event))
        with translated(_WHAT), understood(_WHAT):
            said = cast("list[bytes]", self._run(self._append, arguments))
            return [Outcome(one.decode()) for one, _ in zip(said, events, strict=True)]

    def read(self, after: int, limit: int) -> list[Row]:
        """As `EventLog.read`."""
        with translated(_WHAT), understood(_WHAT):
            found = cast("list[bytes]", self._run(self._read, [str(after + 1), str(limit)]))
            rows = zip(found[::3], found[1::3], found[2::3], strict=True)
            return [Row(int(offset), _read_back(content), int(at) if at and at.isdigit() else 0) for offset, content, at in rows]

    def forget(self, users: Sequence[str]) -> int:
        """As `EventLog.forget`; Redis writes its append-only file and its snapshot anew, copies made of them elsewhere are not its own."""
        tombstones = list(map(tombstone, users))
        with translated(_WHAT), understood(_WHAT):
            removed = int(self._run(self._forget, [_USER, *tombstones]))
            self._rewritten(self._redis.bgrewriteaof, ("aof_rewrite_in_progress", "aof_rewrite_scheduled"), "aof_last_bgrewrite_status")
            self._rewritten(self._redis.bgsave, ("rdb_bgsave_in_progress",), "rdb_last_bgsave_status")
        return removed

    def head(self) -> Head:
        """As `EventLog.head`."""
        with translated(_WHAT), understood(_WHAT):
            identity, given = cast("list[bytes]", self._run(self._head, [secrets.token_hex(16)]))
            return Head(identity.decode(), int(given))

    def last(self) -> int:
        """As `EventLog.last`."""
        with translated(_WHAT), understood(_WHAT):
            newest = cast("list[tuple[bytes, Any]]", self._redis.xrevrange(_KEYS[0], count=1))
            return int(newest[0][0].split(b"-")[0]) if newest else 0

    def close(self) -> None:
        """As `EventLog.close`."""
        self._redis.close()
        self._checked = False

    def _run(self, script: Callable[..., Any], arguments: Sequence[str | bytes]) -> Any:
        try:
            with translated(_WHAT):
                if not self._checked:
                    self._check()
                return script(keys=_KEYS, args=arguments)
        except BaseException:
            self._checked = False  # it may come back as another server, or set otherwise
            raise

    def _check(self) -> None:
        """Refuse a server that would lose events; warn of one that may.

        Raises:
            Unavailable: naming the setting.
        """
        found = self._info("persistence", "memory")
        if not found["aof_enabled"]:
            raise Unavailable(f"{_WHAT}: Redis does not persist: it needs `appendonly yes`")
        if found["maxmemory"] and str(found["maxmemory_policy"]).startswith("allkeys-"):
            raise Unavailable(f"{_WHAT}: Redis evicts keys: it needs `maxmemory-policy noeviction`, has {found['maxmemory_policy']}")
        policy = "unknown"
        with suppress(ResponseError):  # a hosted Redis may keep its settings to itself
            policy = cast("dict[str, str]", self._redis.config_get("appendfsync"))["appendfsync"]
        if policy != "always":
            log.warning("event_log_durability", extra={"appendfsync": policy, "detail": "a power cut may lose acknowledged events"})
        self._checked = True

    def _rewritten(self, start: Callable[[], Any], running: Sequence[str], status: str) -> None:
        """Have a file written anew from what is there now."""
        deadline = time.monotonic() + self._rewrite_s
        self._idle(running, deadline)  # one that began before holds what was forgotten
        start()
        self._idle(running, deadline)
        said = self._info("persistence")[status]
        if said != "ok":
            raise Unavailable(f"{_WHAT}: Redis: events are removed, but its files still hold them: {status} {said}; call again")

    def _idle(self, running: Sequence[str], deadline: float) -> None:
        while any(self._info("persistence")[name] for name in running):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{_WHAT}: Redis: events are removed, but its files were not written anew in {self._rewrite_s:g} s; call again"
                )
            time.sleep(0.02)

    def _info(self, *sections: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for section in sections:  # one by one: servers before 7 take no more
            found |= cast("dict[str, Any]", self._redis.info(section))
        return found


def _content(event: Event) -> str:
    """JSON of the fields; without an order as it was before events had one, so that such an event sent again is a duplicate."""
    return json.dumps(event if event.order_id else event[:-1], ensure_ascii=False, separators=(",", ":"))


def _read_back(content: bytes | None) -> Event | Unreadable:
    """The event of what `_content` made."""
    if content is None:
        return Unreadable("", "its content is gone")
    try:
        fields = json.loads(content)
    except ValueError:
        return Unreadable("", "its content is no JSON")
    return decoded(fields) if isinstance(fields, list) else Unreadable("", "its content is no list")
