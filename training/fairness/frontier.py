"""What fairness costs: NDCG against the exposure of tail and new items, every entrant at every floor.

For each seed and floor an entrant's strength is chosen on validation lists, then it ranks the test lists once. Entrants that remember
start the test with what the validation lists left them, as a service would. Every entrant with a strength may try `BUDGET` of them.

Some arms cannot reach a floor at any strength. They are held against ours at the exposure they did reach, so that the comparison is
always at equal floors; the exposure needs no labels to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.amortised import promised
from ranking.fairness.exposure import discounts
from ranking.fairness.groups import ListGroups
from ranking.metrics import bootstrap_interval, paired_bootstrap_interval
from ranking.types import FloatArray, IntArray
from training.fairness.entrants import ENTRANTS, NONE, OURS, TOGETHER, Entrant, Promise, Ranker
from training.fairness.lists import PAGE, ScoredLists

FLOORS = (0.8, 0.9, 0.95, 1.0)  # of each guarded group's share of the list's candidates
COARSE, FINE = 6, 4
BUDGET = COARSE + FINE
WARM_UP = 0.25  # of the validation lists are ranked but not judged: accounts begin empty
TOLERANCE = 2.0  # lists: a floor of exposure over all lists that is missed by less counts as met; accounts always owe or are owed some
_GUARD = 1e-9  # 0.57 * 100 is 56.99999999999999 in binary


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one entrant did to (L,) lists with g groups."""

    ids: IntArray  # (L,) which list
    ndcg: FloatArray  # (L,) NDCG@PAGE; NaN where no candidate is wanted
    exposure: FloatArray  # (L, g) shares of the page's exposure
    met: NDArray[np.bool_]  # (L,) every floor held at every prefix, as far as there were candidates

    def last(self, count: int) -> Outcome:
        """The last `count` lists."""
        return Outcome(self.ids[-count:], self.ndcg[-count:], self.exposure[-count:], self.met[-count:])


@dataclass(frozen=True, slots=True)
class Terms:
    """What is promised on (L,) lists."""

    floors: FloatArray  # (L, g) least shares within each list
    owed: FloatArray  # (L, g) exposure promised, as far as there are candidates

    @classmethod
    def of(cls, lists: ScoredLists, share: float) -> Terms:
        """`share` of each group's share of the candidates, for all groups but the head."""
        floors = lists.shares() * share
        floors[:, 0] = 0.0
        ones = np.ones(len(lists.names))
        owed = [promised(ListGroups("", lists.names, lists.groups[s], f, ones), PAGE) for s, f in zip(lists.spans(), floors, strict=True)]
        return cls(floors, np.array(owed))


@dataclass(frozen=True, slots=True)
class Replication:
    """One seed at one floor: each entrant's outcome on the test lists, and the strength it was given."""

    share: float
    outcomes: Mapping[str, Outcome]
    strengths: Mapping[str, float]
    owed: FloatArray  # (L, g) of the test lists
    matched: Mapping[str, Outcome]  # arm that missed the floor -> ours at the exposure it reached


def rank_all(ranker: Ranker, lists: ScoredLists, terms: Terms) -> Outcome:
    """Rank the lists in their order."""
    pages = np.full((len(lists), PAGE), -1, np.int64)
    for i, span in enumerate(lists.spans()):
        order = ranker(lists.scores[span], lists.groups[span], terms.floors[i], PAGE)
        pages[i, : len(order)] = order + span.start
    return judge(pages, lists, terms)


def judge(pages: IntArray, lists: ScoredLists, terms: Terms) -> Outcome:
    """What (L, PAGE) rows of the lists, -1 where a list is too short, are worth."""
    shown = pages >= 0
    weights = shown * discounts(PAGE)
    dcg = (np.where(shown, lists.gains[pages], 0.0) * weights).sum(axis=1)
    ndcg = np.divide(dcg, lists.ideal, out=np.full(len(lists), np.nan), where=lists.answerable())
    member = (lists.groups[pages][:, :, None] == np.arange(len(lists.names))) & shown[:, :, None]  # (L, PAGE, g)
    exposure = (member * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    places = np.cumsum(shown, axis=1)  # a list shorter than the page has no further prefixes
    least = np.floor(places[:, :, None] * terms.floors[:, None, :] + _GUARD)
    have = np.rint(lists.shares() * np.diff(lists.offsets)[:, None])
    met = np.asarray((np.cumsum(member, axis=1) >= np.minimum(least, have[:, None, :])).all(axis=(1, 2)))
    return Outcome(lists.ids, ndcg, exposure, met)


def shortfall(outcome: Outcome, owed: FloatArray, promise: Promise) -> float:
    """Share of all exposure by which the worst served group lies below its promise, 0 where none does."""
    missing = (owed - outcome.exposure).mean(axis=0)[1:]
    return float(max(0.0, missing.sum() if promise == "together" else missing.max()))


def worst_deficit(outcome: Outcome, owed: FloatArray, promise: Promise) -> float:
    """Exposure that the worst served group lacked at its worst moment, in lists."""
    missing = np.cumsum(owed - outcome.exposure, axis=0)[:, 1:]
    return float(max(0.0, missing.sum(axis=1).max() if promise == "together" else missing.max()))


def tune(entrant: Entrant, lists: ScoredLists, terms: Terms) -> tuple[float, Ranker]:
    """The best strength on the lists, of `COARSE` along the dial and `FINE` about the best of those, and the ranker that used it.

    Best: the highest NDCG of those that keep the promise; where none does, the one nearest to it.
    """
    assert entrant.dial is not None
    judged = len(lists) - int(WARM_UP * len(lists))
    tried: dict[float, tuple[tuple[float, float], Ranker]] = {}

    def attempt(position: float) -> None:
        ranker = entrant.make(len(lists.names), entrant.dial(position))  # type: ignore[misc]
        outcome = rank_all(ranker, lists, terms).last(judged)
        missed = shortfall(outcome, terms.owed[-judged:], entrant.promise)
        missed = 0.0 if missed <= TOLERANCE / judged else missed
        tried[position] = ((-missed, float(np.nanmean(outcome.ndcg))), ranker)

    def best() -> float:
        return max(tried, key=lambda position: tried[position][0])

    for position in np.linspace(0.0, 1.0, COARSE).tolist():
        attempt(position)
    centre, step = best(), 1.0 / (COARSE - 1)
    side = FINE // 2
    for i in range(1, side + 1):
        for position in (centre - step * i / (side + 1), centre + step * i / (side + 1)):
            attempt(min(max(position, 0.0), 1.0))
    chosen = best()
    return entrant.dial(chosen), tried[chosen][1]


def replicate(share: float, valid: ScoredLists, test: ScoredLists) -> Replication:
    """Tune every entrant on `valid` and rank `test` with it, at floors of `share`."""
    before, terms = Terms.of(valid, share), Terms.of(test, share)
    outcomes, strengths, matched = {}, {}, {}
    for name, entrant in ENTRANTS.items():
        if entrant.dial is None:
            ranker = entrant.make(len(test.names), 0.0)
        else:
            strengths[name], ranker = tune(entrant, valid, before)
        outcomes[name] = rank_all(ranker, test, terms)
        if entrant.promise == "together" and shortfall(outcomes[name], terms.owed, "together") > TOLERANCE / len(test):
            matched[name] = _ours_at(share * reached(outcomes[name], terms.owed), valid, test)
    return Replication(share, outcomes, strengths, terms.owed, matched)


def reached(outcome: Outcome, owed: FloatArray) -> float:
    """Exposure of all groups but the head as a share of what they were promised."""
    return float((1.0 - outcome.exposure[:, 0]).mean() / owed[:, 1:].sum(axis=1).mean())


def _ours_at(share: float, valid: ScoredLists, test: ScoredLists) -> Outcome:
    """Ours for tail and new as one, tuned and run at another floor."""
    _, ranker = tune(ENTRANTS[TOGETHER], valid, Terms.of(valid, share))
    return rank_all(ranker, test, Terms.of(test, share))


Read = Callable[[], tuple[ScoredLists, ScoredLists]]
"""Validation and test lists of one seed; picklable, so that each process reads its own."""


def replicate_all(seeds: Iterable[Read], *, processes: int, advance: Callable[[], None]) -> list[list[Replication]]:
    """Replications of each seed at each of `FLOORS`: [floor][seed]."""
    seeds = list(seeds)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = [[pool.submit(_replicate, read, share) for read in seeds] for share in FLOORS]
        for future in (f for row in running for f in row):
            future.add_done_callback(lambda _: advance())
        return [[future.result() for future in row] for row in running]


def _replicate(read: Read, share: float) -> Replication:
    return replicate(share, *read())


@dataclass(frozen=True, slots=True)
class Pooled:
    """One entrant at one floor, seeds averaged list by list."""

    ndcg: FloatArray  # (L,)
    tail: FloatArray  # (L,) exposure of all groups but the head


def _pooled(outcomes: Sequence[Outcome]) -> Pooled:
    by_id = [np.argsort(o.ids) for o in outcomes]  # seeds may have asked the lists in other orders
    ndcg = np.array([o.ndcg[i] for o, i in zip(outcomes, by_id, strict=True)])
    valued = (~np.isnan(ndcg)).sum(axis=0)
    mean = np.divide(np.nansum(ndcg, axis=0), valued, out=np.full(ndcg.shape[1], np.nan), where=valued > 0)
    return Pooled(mean, np.mean([1.0 - o.exposure[i, 0] for o, i in zip(outcomes, by_id, strict=True)], axis=0))


def summarise(replications: Sequence[Replication], *, draws: int = 1000) -> dict[str, dict[str, Any]]:
    """The table at one floor.

    Returns:
        entrant -> ``ndcg`` and ``tail_exposure`` [mean, low, high] over lists, ``ndcg_seeds`` [lowest, highest] of the seeds' means,
        ``shortfall_pp`` (percentage points of exposure below its own promise) and ``deficit_lists`` (how far below at the worst moment
        of the test), both means over seeds, ``lists_met`` and ``infeasible_lists`` (shares of lists whose floors hold at every prefix,
        or do not), ``strengths`` (one per seed). For the published arms also ``ours`` (which of ours they are held against),
        ``ours_minus`` [mean, low, high] of NDCG on the same lists, ``reaches_floor``, ``ours_tail_exposure`` (ours in that comparison),
        ``floors_as_well`` (ours keeps the promise no worse) and ``verdict``.
    """
    table: dict[str, dict[str, Any]] = {}
    for name, entrant in ENTRANTS.items():
        outcomes = [r.outcomes[name] for r in replications]
        pooled = _pooled(outcomes)
        means = [float(np.nanmean(o.ndcg)) for o in outcomes]
        met = float(np.mean([o.met.mean() for o in outcomes]))
        missing, worst = (
            float(np.mean([f(o, r.owed, entrant.promise) for o, r in zip(outcomes, replications, strict=True)]))
            for f in (shortfall, worst_deficit)
        )
        table[name] = {
            "label": entrant.label,
            "promise": entrant.promise,
            "ndcg": _row(bootstrap_interval(pooled.ndcg, 0, n=draws)),
            "ndcg_seeds": [round(min(means), 5), round(max(means), 5)],
            "tail_exposure": _row(bootstrap_interval(pooled.tail, 0, n=draws)),
            "shortfall_pp": round(100.0 * missing, 4),
            "deficit_lists": round(worst, 3),
            "lists_met": round(met, 5),
            "infeasible_lists": round(1.0 - met, 5),
            "strengths": [round(r.strengths[name], 6) for r in replications if name in r.strengths],
        }
        if name != NONE and name not in OURS.values():
            table[name] |= _versus(name, entrant.promise, pooled, replications, draws)
    return table


def wins(table: Mapping[str, Mapping[str, Any]]) -> float:
    """Share of the published arms that ours equals or beats: floors kept no worse, and the interval of the difference not all below 0."""
    verdicts = [row["verdict"] for row in table.values() if "verdict" in row]
    return float(np.mean([v != "behind" for v in verdicts]))


def _versus(name: str, promise: Promise, theirs: Pooled, replications: Sequence[Replication], draws: int) -> dict[str, Any]:
    """A published arm against ours of the same promise, at equal floors."""
    ours = OURS[promise]
    rivals = [r.matched.get(name, r.outcomes[ours]) for r in replications]
    pooled = _pooled(rivals)
    difference = paired_bootstrap_interval(pooled.ndcg, theirs.ndcg, 0, n=draws)
    kept = [
        _kept(rival, r.outcomes[name], r.owed, promise, matched=name in r.matched) for rival, r in zip(rivals, replications, strict=True)
    ]
    as_well = float(np.mean(kept)) >= -(TOLERANCE / len(pooled.ndcg) if promise != "list" else 0.0)
    return {
        "ours": ours,
        "ours_minus": _row(difference),
        "ours_tail_exposure": round(float(pooled.tail.mean()), 5),
        "reaches_floor": not any(name in r.matched for r in replications),
        "floors_as_well": as_well,
        "verdict": _verdict(difference.low, difference.high, as_well=as_well),
    }


def _kept(ours: Outcome, theirs: Outcome, owed: FloatArray, promise: Promise, *, matched: bool) -> float:
    """By how much ours keeps the promise better than theirs, as far as it was asked for; below 0: worse."""
    if promise == "list":
        return float(ours.met.mean() - theirs.met.mean())
    if matched:
        return float((theirs.exposure[:, 0] - ours.exposure[:, 0]).mean())
    return shortfall(theirs, owed, promise) - shortfall(ours, owed, promise)


def _verdict(low: float, high: float, *, as_well: bool) -> str:
    if not as_well or high < 0.0:
        return "behind"
    return "beaten" if low > 0.0 else "equalled"


def _row(interval: Iterable[float]) -> list[float]:
    return [round(float(x), 5) for x in interval]
