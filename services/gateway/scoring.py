"""Every member's log-odds for one list, members concurrently, within a deadline.

Feature members read the assembled matrix. Text members read (query text, item text) pairs, and only the distinct ones that the score
table lacks and that no other call is already waiting for, here or in another worker. A text request goes on after the caller's deadline:
its scores fill the table.
Nothing here raises: a member that cannot answer is NaN and a degradation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures
from ranking.blend import Blended, BlendSpec, blend
from ranking.cascade import Mask, continued, within
from ranking.errors import Unavailable
from ranking.release import Member
from ranking.text import pair_tensors
from ranking.types import Degradation, Float32Array, FloatArray, IntArray
from services.gateway.pace import Pace
from services.gateway.ports import ModelServer
from services.gateway.releases import LoadedRelease
from services.gateway.scores.elsewhere import awaited
from services.gateway.scores.table import Asked, ScoreTable

log = logging.getLogger(__name__)
_PATIENCE = 0.5  # of a caller's time, for another worker that is getting the same scores; what is left is enough to get them here
_BUG = "unexpected error; the server's log has the cause"


@dataclass(frozen=True, slots=True)
class Scores:
    """What the members said of one list."""

    members: tuple[str, ...]  # (m,) the blend's in its order, then those only the objectives' blends have
    logits: FloatArray  # (m, n) NaN where absent
    degradations: tuple[Degradation, ...]
    member_ms: Mapping[str, float]
    chosen: Mask | None = None  # (n,) candidates within the policy's budget of texts; None: all

    def blend(self, spec: BlendSpec, tiers: NDArray[Any]) -> Blended:
        """One blend of what they said; candidates beyond the budget as `ranking.cascade` says."""
        made = blend(spec, self.of(spec), tiers)
        return made if self.chosen is None else replace(made, probabilities=continued(made.probabilities, self.chosen))

    def of(self, spec: BlendSpec) -> FloatArray:
        """The rows of one blend's members, in its order."""
        if spec.members == self.members:
            return self.logits
        return self.logits[[self.members.index(name) for name in spec.members]]


class _Outcome(NamedTuple):
    row: FloatArray  # (n,) log-odds, NaN where absent
    degradation: Degradation | None
    ms: float


class _Told(NamedTuple):
    """What one text request brought."""

    digests: IntArray  # (k,)
    scores: FloatArray  # (k,) NaN where it brought none


class Scoring:
    """Asks the model server, fills the score table. Lives on the event loop."""

    def __init__(self, server: ModelServer, *, cache: ScoreTable, chunk: int, backlog: int, timeout_s: float) -> None:
        """Wire to a model server.

        Args:
            server: runs the models.
            cache: of text scores.
            chunk: most pairs in one request.
            backlog: pairs under way beyond which new ones are not sent, whatever their callers' deadlines.
            timeout_s: longest one text request may take, whatever the caller's deadline.
        """
        self._server = server
        self._cache = cache
        self._chunk = chunk
        self._backlog = backlog
        self._timeout_s = timeout_s
        self._under_way: dict[Asked, dict[int, asyncio.Task[_Told]]] = {}
        self._pace = Pace(time.monotonic)
        self._hits = self._misses = 0

    @property
    def looked(self) -> tuple[int, int]:
        """Text scores that lists needed and the cache had, and had not, so far."""
        return self._hits, self._misses

    async def score(
        self,
        loaded: LoadedRelease,
        spec: BlendSpec,
        *,
        matrix: Float32Array,
        items: ItemFeatures,
        text: str,
        deadline: float,
        every: bool = False,
        objectives: Sequence[BlendSpec] = (),
        cascade: int = 0,
        retrieval: FloatArray | None = None,
    ) -> Scores:
        """Score one list.

        A member that no group gives weight is waited for only where the others left an item without any score: it would change
        nothing else.

        Args:
            loaded: whose models.
            spec: whose members.
            matrix: (n, d) feature members' input.
            items: (n,) text members' item side.
            text: text members' query side.
            deadline: monotonic seconds.
            every: members without weight are asked as well, for an explanation.
            objectives: blends of further outcomes, whose members are asked together with the others, each once.
            cascade: candidates whose text is read, those that `spec`'s other members put first; 0: all. What the table knows of the
                others is not used: an answer must not depend on what was asked before.
            retrieval: (n,) puts candidates in order that those members say nothing of.
        """
        wanted = dict.fromkeys(spec.members, every)
        for one in (spec, *objectives):
            for name, weight in zip(one.members, one.matrix().max(axis=0).tolist(), strict=True):
                wanted[name] = wanted.get(name, False) or weight > 0.0
        members = [loaded.release.member(name) for name in wanted]
        first = [m for m in members if wanted[m.name]]
        spare = [m for m in members if m not in first]
        outcome: dict[str, _Outcome] = {}
        chosen: Mask | None = None
        if 0 < cascade < len(items) and any(m.kind == "text" for m in first):
            cheap = [m for m in first if m.kind == "features"]
            outcome = await self._outcomes(loaded, cheap, matrix, items, text, deadline)
            nothing = np.full(len(items), np.nan)
            rows = [outcome[name].row if name in outcome else nothing for name in spec.members]
            chosen = within(blend(spec, np.stack(rows), items.tiers).probabilities, cascade, retrieval)
            items = replace(items, text_digests=np.where(chosen, items.text_digests, 0))  # as if the others had no text
        outcome |= await self._outcomes(loaded, [m for m in first if m.name not in outcome], matrix, items, text, deadline)
        if spare:
            own = [outcome[name].row for name in spec.members if name in outcome]
            scored = ~np.isnan(np.stack(own)).all(axis=0)  # (n,) by anybody
            if scored.all():
                outcome |= {m.name: _Outcome(self._at_hand(m, items, text), None, 0.0) for m in spare}
            else:
                outcome |= await self._outcomes(loaded, spare, matrix, items, text, deadline)
        return Scores(
            tuple(wanted),
            np.stack([outcome[m.name].row for m in members]),
            tuple(d for m in members if (d := outcome[m.name].degradation)),
            {m.name: outcome[m.name].ms for m in members},
            chosen,
        )

    async def _outcomes(
        self, loaded: LoadedRelease, members: list[Member], matrix: Float32Array, items: ItemFeatures, text: str, deadline: float
    ) -> dict[str, _Outcome]:
        """What each of `members` says, all asked at once."""
        # What the cache knows needs no task of its own: of a warm list only the feature members are waited for.
        rows = {m.name: self._remembered(m, items, text) for m in members if m.kind == "text"}
        asked = [m for m in members if rows.get(m.name) is None]
        answers = [self._guarded(loaded, m, matrix, items, text, deadline) for m in asked]
        told = [await answers[0]] if len(answers) == 1 else await asyncio.gather(*answers)
        return {name: row for name, row in rows.items() if row is not None} | {m.name: o for m, o in zip(asked, told, strict=True)}

    def _at_hand(self, member: Member, items: ItemFeatures, text: str) -> FloatArray:
        """(n,) what the cache knows of a member that is not asked."""
        if member.kind == "features" or not text:
            return np.full(len(items), np.nan)
        return self._known(_asked(member, text), items)

    async def close(self) -> None:
        """Cancel what is under way."""
        for tasks in self._under_way.values():
            for task in tasks.values():
                task.cancel()

    async def _guarded(
        self, loaded: LoadedRelease, member: Member, matrix: Float32Array, items: ItemFeatures, text: str, deadline: float
    ) -> _Outcome:
        began = time.monotonic()
        try:
            if member.kind == "features":
                return await self._features(member, matrix, deadline)
            return await self._text(loaded, member, items, text, deadline)
        except Exception:  # the boundary of one member: a fault in it must not take the others' scores along
            log.exception("member_failed", extra={"member": member.name})
            return _Outcome(np.full(len(items), np.nan), Degradation(_component(member), "ERROR", _BUG), (time.monotonic() - began) * 1e3)

    async def _features(self, member: Member, matrix: Float32Array, deadline: float) -> _Outcome:
        began = time.monotonic()
        degradation = None
        row = np.full(len(matrix), np.nan)
        try:
            if deadline <= began:
                raise TimeoutError("the budget was spent before scoring")
            out = await self._server.infer(member.model, member.version, {member.inputs[0].name: matrix}, member.output, deadline - began)
            if out.shape != row.shape:
                raise ValueError(f"{member.model} version {member.version}: need {row.shape} scores, got {out.shape}")
            row = _finite(out)
        except TimeoutError as late:
            degradation = Degradation(_component(member), "DEADLINE", str(late))
        except Unavailable as gone:
            degradation = Degradation(_component(member), "UNAVAILABLE", str(gone))
        return _Outcome(row, degradation, (time.monotonic() - began) * 1e3)

    def _remembered(self, member: Member, items: ItemFeatures, text: str) -> _Outcome | None:
        """A text member's outcome if nothing has to be asked for it."""
        began = time.monotonic()
        if not text:  # no query and no known interests: there is nothing a text member could have an opinion on
            return _Outcome(np.full(len(items), np.nan), None, 0.0)
        row = self._known(_asked(member, text), items)
        needed = items.text_digests != 0
        missing = int((np.isnan(row) & needed).sum())
        self._hits += int(needed.sum()) - missing
        self._misses += missing
        if missing:
            return None
        return _Outcome(row, None, (time.monotonic() - began) * 1e3)

    def _known(self, asked: Asked, items: ItemFeatures) -> FloatArray:
        """(n,) cached log-odds; NaN where not known, and for items without text, whose digest is 0 and never asked for."""
        return self._cache.get(asked, items.text_digests)

    async def _text(self, loaded: LoadedRelease, member: Member, items: ItemFeatures, text: str, deadline: float) -> _Outcome:
        began = time.monotonic()
        asked = _asked(member, text)
        row = self._known(asked, items)
        missing = np.flatnonzero(np.isnan(row) & (items.text_digests != 0))
        tasks, refused = self._ask(loaded, member, asked, items, missing, began, deadline)
        pending: set[asyncio.Task[_Told]] = set()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=max(deadline - time.monotonic(), 0.0))
        for task in tasks - pending:  # from the tasks, not from the table, where others may have taken the place by now
            if not task.cancelled() and task.exception() is None:
                row[missing] = _filled(row[missing], items.text_digests[missing], task.result())
        degradation = self._lacking(member, row[missing], tasks - pending, pending, refused)
        return _Outcome(row, degradation, (time.monotonic() - began) * 1e3)

    def _ask(
        self, loaded: LoadedRelease, member: Member, asked: Asked, items: ItemFeatures, missing: IntArray, now: float, deadline: float
    ) -> tuple[set[asyncio.Task[_Told]], bool]:
        """The tasks that will bring the missing scores, new ones and those already under way; and whether some were not sent.

        A list's new texts are sent together or, where they would not be scored by the deadline, not at all: half a list helps nobody and
        takes the place of one that would have been whole. Where nothing else waits they are sent all the same, for the next who asks.
        """
        tasks: set[asyncio.Task[_Told]] = set()
        if under_way := self._under_way.get(asked):
            found = [under_way.get(digest) for digest in items.text_digests[missing].tolist()]
            tasks.update(task for task in found if task is not None)
            missing = missing[[task is None for task in found]]
        _, first = np.unique(items.text_digests[missing], return_index=True)
        new = missing[np.sort(first)]  # a candidate for each distinct text
        room = self._backlog - self._pace.under_way
        late = self._pace.under_way > 0 and (len(new) > room or not self._pace.in_time(len(new), deadline - now))
        send = new[: 0 if late else room]
        elsewhere = self._cache.claimants(asked, items.text_digests[send]) > 0
        if len(send) > self._chunk:  # texts of like length together: a batch is as long as its longest
            by_length = np.argsort((items.token_ids[send] != 0).sum(axis=1), kind="stable")
            send, elsewhere = send[by_length], elsewhere[by_length]
        for part, until in ((send[~elsewhere], 0.0), (send[elsewhere], now + _PATIENCE * (deadline - now))):
            for at in range(0, len(part), self._chunk):
                tasks.add(self._start(loaded, member, asked, items.take(part[at : at + self._chunk]), until))
        return tasks, len(send) < len(new)

    def _start(self, loaded: LoadedRelease, member: Member, asked: Asked, items: ItemFeatures, until: float) -> asyncio.Task[_Told]:
        """Get the scores of n items' distinct texts, in the first place, until `until`, from another worker that said it was."""
        digests = items.text_digests

        async def fetch() -> _Told:
            scores = await awaited(self._cache, asked, digests, until) if until else np.full(len(digests), np.nan)
            rest = np.flatnonzero(np.isnan(scores))
            if len(rest):
                self._cache.claim(asked, digests[rest])
                tensors = pair_tensors(loaded.tokens(asked.text), items.token_ids[rest], loaded.release.tokenizer.special)
                inputs = {t.name: tensors[t.name] for t in member.inputs}
                out = await self._server.infer(member.model, member.version, inputs, member.output, self._timeout_s)
                scores[rest] = _finite(out)
                self._cache.put(asked, digests[rest], scores[rest])
            return _Told(digests, scores)

        def done(task: asyncio.Task[_Told]) -> None:
            error = None if task.cancelled() else task.exception()  # looked at even when its caller has left: asyncio would report it
            if error is not None and not isinstance(error, Unavailable | TimeoutError):
                log.error("member_failed", exc_info=error, extra={"member": member.name})  # here: once, however many calls wait for it
            self._cache.disclaim(asked, digests)  # of what brought no score
            self._pace.ended(len(digests), answered=not task.cancelled() and error is None)
            waiting = self._under_way[asked]
            for digest in digests.tolist():
                del waiting[digest]
            if not waiting:
                del self._under_way[asked]

        task = asyncio.create_task(fetch())
        self._pace.began(len(digests))
        self._under_way.setdefault(asked, {}).update(dict.fromkeys(digests.tolist(), task))
        task.add_done_callback(done)
        return task

    @staticmethod
    def _lacking(
        member: Member, scores: FloatArray, done: set[asyncio.Task[_Told]], pending: set[asyncio.Task[_Told]], refused: bool
    ) -> Degradation | None:
        absent = int(np.isnan(scores).sum())
        if not absent:
            return None
        failures = [e for t in done if not t.cancelled() and (e := t.exception()) is not None]
        if any(not isinstance(e, Unavailable | TimeoutError) for e in failures):
            reason, why = "ERROR", _BUG
        elif any(isinstance(e, Unavailable) for e in failures):
            reason, why = "UNAVAILABLE", str(next(e for e in failures if isinstance(e, Unavailable)))
        elif pending or failures:
            reason, why = "DEADLINE", "not scored in time"
        elif refused:
            reason, why = "OVERLOADED", "too many texts are waiting to be scored in time"
        else:
            reason, why = "UNAVAILABLE", "the model gave no finite score"
        return Degradation(_component(member), reason, f"{absent} of the list's texts have no score: {why}")


def _component(member: Member) -> str:
    return f"member:{member.name}"


def _asked(member: Member, text: str) -> Asked:
    return Asked(member.model, member.version, member.sha256, text)


def _filled(scores: FloatArray, digests: IntArray, told: _Told) -> FloatArray:
    """(n,) scores, and in their place what a request brought for the same texts."""
    order = np.argsort(told.digests)
    at = order[np.minimum(np.searchsorted(told.digests, digests, sorter=order), len(order) - 1)]
    return np.where(told.digests[at] == digests, told.scores[at], scores)


def _finite(scores: Float32Array) -> FloatArray:
    """As float64, NaN for anything that is no number."""
    wide = scores.astype(np.float64)
    wide[~np.isfinite(wide)] = np.nan
    return wide
