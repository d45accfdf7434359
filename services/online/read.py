"""Answers questions about users and items: the item snapshot where it is young enough and has the feature, else the feature store.

Lives on the event loop; the store is read on threads of its own, so that whoever reads features holds up nobody who ranks. A store that is
down or slow is an error, unless the snapshot can answer in its place: then it does, and the answer says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ranking.errors import LongtailError, OutOfTime, Unavailable
from ranking.features import Entity
from ranking.types import Degradation, FloatArray
from services.feature_store.freshness import freshness_codes
from services.feature_store.port import ENTITY_VIEWS, FeatureStore
from services.online.columns import HELD, Column, from_items, from_values, scattered
from services.online.types import FEATURES, LIFETIMES, Answer, Question
from services.snapshot.latest import Latest

_Found = tuple[Mapping[str, Column], FloatArray]  # columns by feature, (n,) each, and (views, n) event times


class Reader:
    """Reads for one process."""

    def __init__(self, store: FeatureStore, snapshot: Latest, *, stale_s: float, clock: Callable[[], float] = time.time) -> None:
        """Nothing is read yet.

        Args:
            store: used by one thread per entity.
            snapshot: of items; somebody else lets it follow its file.
            stale_s: age beyond which it is not believed while the store answers, in seconds.
            clock: seconds since 1970, for freshness only.
        """
        self._store, self._snapshot, self._stale_s, self._clock = store, snapshot, stale_s, clock
        self._threads = {e: ThreadPoolExecutor(1, thread_name_prefix=f"online-{e}") for e in Entity}

    async def read(self, question: Question, wait_s: float, limit_s: float) -> Answer:
        """The answer.

        Args:
            question: what is asked.
            wait_s: longest the store may take.
            limit_s: seconds until the caller gives up, infinite for never; says whose time ran out.

        Raises:
            Unavailable: the store did not answer, and the snapshot cannot.
            OutOfTime: the same, and it was the caller's time that ran out.
        """
        try:
            async with asyncio.timeout(wait_s):
                return await self._read(question)
        except TimeoutError:
            error = (OutOfTime if limit_s <= wait_s else Unavailable)(f"feature store: no answer within {wait_s:.3g} s")
            reason = "DEADLINE"
        except Unavailable as refused:
            error, reason = refused, "UNAVAILABLE"
        return self._without_store(question, error, reason)

    def close(self) -> None:
        """Let the threads end once what they are reading has been read."""
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    async def _read(self, question: Question) -> Answer:
        n = len(question.ids)
        base = self._held(question)
        degraded = self._unbelieved(question, self._stale_s)
        if base is None or self._snapshot.age_s > min(self._stale_s, question.max_age_s):
            return self._answer(question, await self._stored(question.entity, question.ids, question.features), degraded)
        (columns, times), known = base
        rest = np.flatnonzero(~known)
        if len(rest):
            absent = [question.ids[i] for i in rest.tolist()]
            found, times[:, rest] = await self._stored(question.entity, absent, list(columns))
            there = np.flatnonzero(known)
            columns = {name: scattered(n, [(there, column.take(there)), (rest, found[name])]) for name, column in columns.items()}
        lacking = [name for name in question.features if name not in columns]
        if lacking:
            found, stored = await self._stored(question.entity, question.ids, lacking)
            others = slice(len(ENTITY_VIEWS[question.entity]), None)  # views the snapshot does not have
            columns, times[others] = {**columns, **found}, stored[others]
        return self._answer(question, (columns, times), degraded)

    def _without_store(self, question: Question, error: LongtailError, reason: str) -> Answer:
        base = self._held(question)
        if base is None or not set(question.features) <= set(base[0][0]):
            raise error
        found, known = base
        said = f"{error}; {int((~known).sum())} of {len(known)} items are not in the item snapshot, their declared defaults were used"
        old = self._unbelieved(question, min(self._stale_s, question.max_age_s))
        return self._answer(question, found, [*old, Degradation("features:item", reason, said)])

    def _answer(self, question: Question, found: _Found, degraded: Sequence[Degradation]) -> Answer:
        columns, times = found
        lifetimes = np.minimum(LIFETIMES[question.entity], question.max_age_s)
        return Answer(columns, times, freshness_codes(times, lifetimes, self._clock()), lifetimes, degraded)

    def _held(self, question: Question) -> tuple[_Found, NDArray[np.bool_]] | None:
        """What the snapshot says of those features it has, and which items it knows; None where it says nothing."""
        snapshot = self._snapshot.current
        names = [name for name in question.features if name in HELD]
        if snapshot is None or question.entity is not Entity.ITEM or not names:
            return None
        items, times, known = snapshot.gather(question.ids)
        return (
            {name: from_items(FEATURES[Entity.ITEM][name], items, snapshot.names) for name in names},
            _all_views(times, Entity.ITEM),
        ), known

    def _unbelieved(self, question: Question, bound_s: float) -> list[Degradation]:
        if question.entity is not Entity.ITEM:
            return []
        if self._snapshot.current is None:
            refused = f"the item snapshot was refused: it {self._snapshot.problem}; items were read from the feature store"
            return [Degradation("features:snapshot", "UNAVAILABLE", refused)] if self._snapshot.problem else []
        age = self._snapshot.age_s
        if age <= bound_s:
            return []
        return [Degradation("features:snapshot", "STALE", f"the item snapshot is {age:.0f} s old, beyond {bound_s:g} s")]

    async def _stored(self, entity: Entity, ids: Sequence[str], names: Sequence[str]) -> _Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads[entity], self._load, entity, ids, names)

    def _load(self, entity: Entity, ids: Sequence[str], names: Sequence[str]) -> _Found:
        rows = self._store.read(entity, ids, names)
        return {name: from_values(FEATURES[entity][name], rows.values.get(name), len(ids)) for name in names}, _all_views(
            rows.event_times, entity
        )


def _all_views(event_times: FloatArray, entity: Entity) -> FloatArray:
    """(views, n): with no row in the views that are not in it."""
    more = len(LIFETIMES[entity]) - len(event_times)
    return np.concatenate([event_times, np.full((more, event_times.shape[1]), np.nan)])
