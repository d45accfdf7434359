"""Features of one list: the user's from a small cache, the items' from the snapshot and, what it lacks, from the item table; both caches
are filled from the feature store.

A warm call waits for nothing. A cold one reads the missing entities in one batched call each, in threads, until the deadline; what is late
or failing becomes declared defaults and a degradation, and a late read still fills the caches. A snapshot older than its bound is no longer
believed: its items are read like missing ones, and only where that fails its values still stand.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import ChainMap, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import UNKNOWN_USER, ItemFeatures, UserFeatures, user_features
from ranking.errors import Unavailable
from ranking.features import Entity
from ranking.types import Degradation, FloatArray, Freshness, IntArray
from services.feature_store.freshness import TTLS, freshness_codes
from services.feature_store.port import ENTITY_VIEWS, FeatureRows, FeatureStore
from services.gateway.items import ItemTable, unknown_items
from services.rpc import tracing
from services.snapshot.latest import Latest

log = logging.getLogger(__name__)
_STATES = tuple(state.value for state in Freshness)
_WAITING = 256  # reads of one entity beyond which a store that hangs is not asked for more: nobody would be left to hear the answer
_UNKNOWN_TIMES = {e: np.full((len(views), 1), np.nan) for e, views in ENTITY_VIEWS.items()}


@dataclass(frozen=True, slots=True)
class ListFeatures:
    """Everything the store says about one list."""

    user: UserFeatures
    items: ItemFeatures  # (n,)
    user_states: NDArray[np.int8]  # (user views, 1) index into `Freshness`
    item_states: NDArray[np.int8]  # (item views, n)
    names: Mapping[int, str]  # what each of `items.attribute_keys` stands for
    degradations: tuple[Degradation, ...]
    as_of: float  # seconds since 1970: the instant the values were asked for, by which their freshness was judged

    def counts(self) -> dict[str, int]:
        """Freshness value -> number of (entity, view) reads."""
        c = np.bincount(self.item_states.ravel(), minlength=len(_STATES)).tolist()
        for code in self.user_states.ravel().tolist():
            c[code] += 1
        return dict(zip(_STATES, c, strict=True))

    def states(self, rows: IntArray) -> dict[str, list[str]]:
        """View -> (k,) freshness of the items at `rows`, and of the user, the same for each."""
        user = {v.name: [_STATES[c]] * len(rows) for v, c in zip(ENTITY_VIEWS[Entity.USER], self.user_states[:, 0], strict=True)}
        items = zip(ENTITY_VIEWS[Entity.ITEM], self.item_states[:, rows], strict=True)
        return user | {view.name: [_STATES[c] for c in codes] for view, codes in items}


@dataclass(frozen=True, slots=True)
class _User:
    features: UserFeatures
    event_times: FloatArray  # (views, 1)
    read_at: float
    change: int  # what `Changes.of` said before it was read


@dataclass(frozen=True, slots=True)
class _Base:
    """What the snapshot says of one list; the arrays are the list's own."""

    items: ItemFeatures  # (n,)
    times: FloatArray  # (views, n)
    rest: IntArray  # positions of the items that have to come from elsewhere
    names: Mapping[int, str]


class Features:
    """Reads through two caches. Lives on the event loop; only the store's reads run in threads."""

    def __init__(
        self,
        store: FeatureStore,
        *,
        user_ttl_s: float,
        user_cache: int,
        item_refresh_s: float,
        item_cache: int,
        snapshot: Latest,
        snapshot_stale_s: float,
        change: Callable[[str], int] = lambda _: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Wire the caches to a store.

        Args:
            store: read from one thread per entity.
            user_ttl_s: age at which a cached user is read again, in seconds.
            user_cache: users kept.
            item_refresh_s: age at which a cached item is read again in the background, in seconds.
            item_cache: items kept that the snapshot lacks.
            snapshot: asked first; somebody else lets it follow its file.
            snapshot_stale_s: age beyond which it is not believed, in seconds.
            change: a number per user that is another one once the user's features changed: a cached user is then read again.
            clock: seconds since 1970, for freshness only; cache ages use the monotonic clock.
        """
        self._store = store
        self._user_ttl_s = user_ttl_s
        self._user_cache = user_cache
        self._item_refresh_s = item_refresh_s
        self._snapshot = snapshot
        self._snapshot_stale_s = snapshot_stale_s
        self._change = change
        self._clock = clock
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._reading_users: dict[tuple[str, int], asyncio.Task[_User]] = {}
        self._items = ItemTable(item_cache)
        self._filling = asyncio.Lock()
        self._fills = 0
        self._looked = {"user": [0, 0], "item": [0, 0], "snapshot": [0, 0]}  # found and not found, so far
        self._background: set[asyncio.Task[None]] = set()
        # One thread each: a store's connection need not be thread-safe, and a long item read does not hold up a user.
        self._threads = {e: ThreadPoolExecutor(1, thread_name_prefix=f"features-{e}") for e in Entity}

    async def get(self, user_id: str, item_ids: Sequence[str], deadline: float) -> ListFeatures:
        """The list's features, never an error.

        Args:
            user_id: may be empty or unknown.
            item_ids: (n,) unique.
            deadline: monotonic seconds after which defaults take the place of what has not been read.
        """
        now = time.monotonic()
        user = self._cached_user(user_id, now)
        degraded: list[Degradation] = []
        with tracing.span("snapshot.read", items=len(item_ids)):
            base = self._snapshot_rows(item_ids, degraded)
        rest = item_ids if base is None else [item_ids[i] for i in base.rest.tolist()]
        absent = int(np.count_nonzero(self._items.rows(rest) < 0)) if rest else 0
        cold_items = absent > 0
        if user_id:
            self._count("user", int(user is not None), int(user is None))
        self._count("snapshot", len(item_ids) - len(rest), len(rest))
        self._count("item", len(rest) - absent, absent)
        if user is None or cold_items:
            waits: list[Awaitable[_User | None]] = []
            if user is None:
                waits.append(self._within(partial(self._read_user, user_id), deadline, "features:user", degraded))
            if cold_items:
                waits.append(self._within(partial(self._fill, rest), deadline, "features:item", degraded))
            found = await asyncio.gather(*waits)
            user = user or found[0]
        if base is None:
            items, item_times, names = *self._gather(item_ids), self._items.names
        else:
            items, item_times, names = self._overlaid(base, rest)
        clock = self._clock()
        user_times = user.event_times if user else _UNKNOWN_TIMES[Entity.USER]
        user_states = freshness_codes(user_times, TTLS[Entity.USER], clock)
        item_states = freshness_codes(item_times, TTLS[Entity.ITEM], clock)
        failed = {d.component for d in degraded}
        if "features:user" not in failed and user_states[0, 0] == 2:
            detail = "the user has no stored features" if user_id else "no user_id was given, or the user opted out"
            degraded.append(Degradation("features:user", "NOT_FOUND", f"{detail}; declared defaults were used"))
        unknown = int(np.count_nonzero(item_states[0] == 2))
        if "features:item" not in failed and unknown:
            detail = f"{unknown} of {len(item_ids)} items have no stored features; declared defaults were used"
            degraded.append(Degradation("features:item", "NOT_FOUND", detail))
        return ListFeatures(user.features if user else UNKNOWN_USER, items, user_states, item_states, names, tuple(degraded), clock)

    def looked(self, cache: str) -> tuple[int, int]:
        """What was found and not found so far in `user` (users kept), `snapshot` and `item` (items kept that the snapshot lacks)."""
        found, absent = self._looked[cache]
        return found, absent

    async def close(self) -> None:
        """Stop background refreshes and the threads; running reads end on their own."""
        for task in (*self._background, *self._reading_users.values()):
            task.cancel()
        for pool in self._threads.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def warm(self) -> None:
        """Open the store before the first call does; a failure is logged and left to the calls."""
        for entity in Entity:
            try:
                await self._read(entity, ("",))
            except Unavailable as error:
                log.warning("feature_store_unavailable", extra={"detail": str(error)})
                return
            except Exception:  # as for the calls: no fault of the store keeps the gateway from ranking
                log.exception("feature_read_failed", extra={"entity": entity})
                return

    def _count(self, cache: str, found: int, absent: int) -> None:
        so_far = self._looked[cache]
        so_far[0] += found
        so_far[1] += absent

    def _snapshot_rows(self, item_ids: Sequence[str], degraded: list[Degradation]) -> _Base | None:
        """What the snapshot says, None where there is none; degraded where it is too old to be believed."""
        snapshot = self._snapshot.current
        if snapshot is None:
            if self._snapshot.problem:
                detail = f"the item snapshot was refused: it {self._snapshot.problem}; items were read from the feature store"
                degraded.append(Degradation("features:snapshot", "UNAVAILABLE", detail))
            return None
        items, times, known = snapshot.gather(item_ids)
        age = self._snapshot.age_s
        if age > self._snapshot_stale_s:
            old = f"{age:.0f} s old, beyond {self._snapshot_stale_s:g} s" if math.isfinite(age) else "of a time to come"
            detail = f"the item snapshot is {old}; items were read from the feature store"
            degraded.append(Degradation("features:snapshot", "STALE", detail))
            known[:] = False
        return _Base(items, times, np.flatnonzero(~known), snapshot.names)

    def _overlaid(self, base: _Base, rest: Sequence[str]) -> tuple[ItemFeatures, FloatArray, Mapping[int, str]]:
        """The snapshot's items, and over them those of `rest` that the table has."""
        if not rest:
            return base.items, base.times, base.names
        now = time.monotonic()
        rows = self._items.rows(rest)
        there, rows = base.rest[rows >= 0], rows[rows >= 0]
        self._refresh_later(rows, now)
        found, base.times[:, there] = self._items.gather(rows, now)
        for column in fields(ItemFeatures):
            getattr(base.items, column.name)[there] = getattr(found, column.name)
        known: list[Any] = [base.names, self._items.names]  # a ChainMap wants to be written to, and is not
        return base.items, base.times, ChainMap({}, *known)

    def _cached_user(self, user_id: str, now: float) -> _User | None:
        if not user_id:
            return _User(UNKNOWN_USER, _UNKNOWN_TIMES[Entity.USER], now, 0)
        user = self._users.get(user_id)
        if user is None or now - user.read_at > self._user_ttl_s or user.change != self._change(user_id):
            return None
        self._users.move_to_end(user_id)
        return user

    async def _read_user(self, user_id: str) -> _User:
        """Calls for the same user share one read, which outlives the call that began it; but none that began before the user changed."""
        change = self._change(user_id)  # before the read: a change meanwhile makes what is read old, not new
        task = self._reading_users.get((user_id, change))
        if task is None:
            if len(self._reading_users) >= _WAITING:
                raise Unavailable(f"feature store: {_WAITING} reads wait for it already")
            task = asyncio.create_task(self._load_user(user_id, change))
            self._reading_users[user_id, change] = task
            task.add_done_callback(lambda _: self._reading_users.pop((user_id, change), None))
        return await asyncio.shield(task)

    async def _load_user(self, user_id: str, change: int) -> _User:
        with _bugs_logged(Entity.USER):
            rows = await self._read(Entity.USER, (user_id,))
            values = {name: column[0] for name, column in rows.values.items()}
            user = _User(user_features(values), rows.event_times, time.monotonic(), change)
        self._users[user_id] = user
        if len(self._users) > self._user_cache:
            self._users.popitem(last=False)
        return user

    async def _fill(self, item_ids: Sequence[str]) -> None:
        """Read what the table lacks; concurrent calls for the same items read them once."""
        if self._fills >= _WAITING:
            raise Unavailable(f"feature store: {_WAITING} reads wait for it already")
        self._fills += 1
        try:
            async with self._filling:
                with _bugs_logged(Entity.ITEM):
                    await self._fill_alone(item_ids)
        finally:
            self._fills -= 1

    async def _fill_alone(self, item_ids: Sequence[str]) -> None:
        rows = self._items.rows(item_ids)
        absent = [i for i, row in zip(item_ids, rows, strict=True) if row < 0]
        if absent:
            self._items.put(absent, await self._read(Entity.ITEM, absent), time.monotonic())

    def _gather(self, item_ids: Sequence[str]) -> tuple[ItemFeatures, FloatArray]:
        """Features and (views, n) event times; defaults and NaN for items the table lacks."""
        now = time.monotonic()
        rows = self._items.rows(item_ids)
        known = rows >= 0
        if known.all():
            self._refresh_later(rows, now)
            return self._items.gather(rows, now)
        blank = unknown_items(item_ids)
        times = np.full((len(ENTITY_VIEWS[Entity.ITEM]), len(item_ids)), np.nan)
        if known.any():
            found, times[:, known] = self._items.gather(rows[known], now)
            for column in fields(ItemFeatures):
                getattr(blank, column.name)[known] = getattr(found, column.name)
        return blank, times

    def _refresh_later(self, rows: IntArray, now: float) -> None:
        old = self._items.expired(rows, now - self._item_refresh_s)
        if old:
            self._items.touch(old, now)  # no other call starts the same refresh
            task = asyncio.create_task(self._refresh(old))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _refresh(self, item_ids: Sequence[str]) -> None:
        try:
            self._items.put(item_ids, await self._read(Entity.ITEM, item_ids), time.monotonic())
        except Unavailable as error:
            log.warning("item_refresh_failed", extra={"items": len(item_ids), "detail": str(error)})
        except Exception:  # the boundary of a background task: nobody awaits it
            log.exception("feature_read_failed", extra={"entity": Entity.ITEM})

    async def _read(self, entity: Entity, ids: Sequence[str]) -> FeatureRows:
        with tracing.asking("feast.read", entity=entity.value, rows=len(ids)):
            return await asyncio.get_running_loop().run_in_executor(self._threads[entity], self._store.read, entity, ids)

    async def _within(
        self, read: Callable[[], Coroutine[Any, Any, _User | None]], deadline: float, component: str, degraded: list[Degradation]
    ) -> _User | None:
        task = asyncio.create_task(read())  # made here: of a call that is cancelled before this begins nothing is left that nobody awaits
        task.add_done_callback(_forget)
        done, _ = await asyncio.wait((task,), timeout=max(deadline - time.monotonic(), 0.0))
        if not done:
            degraded.append(Degradation(component, "DEADLINE", "the feature store was too slow; declared defaults were used"))
            return None
        try:
            return task.result()
        except Unavailable as error:
            degraded.append(Degradation(component, "UNAVAILABLE", f"{error}; declared defaults were used"))
            return None
        except Exception:  # noqa: BLE001 - the boundary of one read, logged where it failed: a row that makes no sense must not fail the call
            degraded.append(Degradation(component, "ERROR", "unexpected error, see the server's log; declared defaults were used"))
            return None


@contextmanager
def _bugs_logged(entity: Entity) -> Iterator[None]:
    """Log what nobody foresaw, where it happens: once, however many calls wait for the read."""
    try:
        yield
    except Unavailable:
        raise
    except Exception:
        log.exception("feature_read_failed", extra={"entity": entity})
        raise


def _forget(task: asyncio.Future[_User | None]) -> None:
    """Look at the outcome even when nobody waits for it any more, so that asyncio does not report it as unseen."""
    if not task.cancelled():
        task.exception()
