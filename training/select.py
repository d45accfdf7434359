"""The winner of a search: the best validation NDCG@10 among the trials whose ensemble keeps what a release promises. Reads no test list.

Promises: members that a release can carry, probabilities that pass the calibration gate in every group, at least the exposure of the tail
that the active policy owes, and a latency within the budget. The baselines `noop` (retrieval order), `popularity` and `shuffle` stand in
every table; an ensemble that does not beat each of them is not released.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.errors import LongtailError
from ranking.fairness.policy import FairnessPolicy
from ranking.features import MODEL_COLUMNS
from training.blends.ensemble import Fitted, fit, tail_share
from training.lists.arrays import EnsembleData, EvalLists
from training.lists.retrieval import first_stage
from training.members.registry import check_servable
from training.progress import console
from training.release.evaluate import Row, evaluate, versus
from training.release.gate import RANKER, Gate, Verdict, check
from training.release.policies import floored, ordered
from training.search.choose import choose
from training.search.journal import Row as Trial

BASELINES = ("noop", "popularity", "shuffle")
PLACES = 10
_POPULARITY = MODEL_COLUMNS.index("promo_rate_28d")
_TIMED = 20  # lists

Latency = Callable[[Fitted, EvalLists], float]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a winner has to keep.

    Attributes:
        policy: the active one, on single lists: its order is what is served.
        gate: bounds of the calibration.
        latency_ms: most that scoring one list may take of the processors' time, 95th percentile, the members that read texts not counted:
            their scores are kept here, and what they cost is measured where they run.
        fewest_lists: with fewer lists that have a positive, baselines are compared and not judged.
        most: trials that are trained again and judged before the search counts as without a winner.
        draws: of the bootstrap.
    """

    policy: FairnessPolicy
    gate: Gate = field(default_factory=Gate)
    latency_ms: float = 100.0
    fewest_lists: int = 30
    most: int = 8
    draws: int = 200


@dataclass(frozen=True, slots=True)
class Judged:
    """One trial, trained again and held against the terms.

    Attributes:
        trial: its name.
        ndcg10: on the selection lists, by probability.
        tail_share10: of the first places of what the policy serves.
        owed: the share that the policy owes on the same lists.
        latency_ms: 95th percentile per list.
        versus: baseline -> difference in NDCG@10 and its interval.
        broken: what it does not keep, in words; empty: it can be released.
    """

    trial: str
    ndcg10: float
    tail_share10: float
    owed: float
    latency_ms: float
    versus: Mapping[str, list[float | None]]
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Winner:
    """What goes into a release.

    Attributes:
        config: of the trial.
        fitted: its ensemble, trained.
        judged: every trial that was looked at, the winner last.
        table: the winner, its members and the baselines: ranker -> ``all`` or tier -> metric -> [value, low, high].
    """

    config: Mapping[str, Any]
    fitted: Fitted
    judged: tuple[Judged, ...]
    table: Mapping[str, Mapping[str, Row]]

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        return {"trial": self.judged[-1].trial, "judged": [asdict(one) | {"broken": list(one.broken)} for one in self.judged]}


class NoWinner(LongtailError):  # noqa: N818 (reads as what happened, like the errors of `ranking.errors`)
    """No trial of a search may be released.

    Attributes:
        judged: the trials that were looked at, and what each breaks.
    """

    def __init__(self, surface: str, judged: Sequence[Judged]) -> None:
        listed = "; ".join(f"trial {one.trial} (NDCG@10 {one.ndcg10:.4f}): {', '.join(one.broken)}" for one in judged)
        super().__init__(f"{surface}: no winner, nothing was published: {listed}")
        self.judged = tuple(judged)


def winner(
    surface: str,
    rows: Sequence[Trial],
    data: EnsembleData,
    seed: int,
    terms: Terms,
    *,
    ungated: bool = False,
    train: Callable[..., Fitted] = fit,
    latency: Latency | None = None,
) -> Winner:
    """Train the trials again, best first, until one keeps all terms.

    Best first is the search's own order: validation NDCG@10, and between trials that order alike the better probabilities.

    Args:
        surface: for messages.
        rows: the search's trials.
        data: what they were trained and compared on.
        seed: of training and intervals.
        terms: to keep.
        ungated: take the first trial whatever it breaks, and say so.
        train: as `fit`.
        latency: milliseconds per list; default: measured here.

    Raises:
        NoWinner: none of the first `terms.most` does; what each breaks is named.
        RuntimeError: no trial has figures at all.
    """
    left, judged = list(rows), []
    while True:
        best = choose(surface, left)
        fitted = train(best.best, data, seed)
        one, table = judge(best.best_trial, fitted, data.select, seed, terms, latency=latency, floor=best.best.get("floor"))
        judged.append(one)
        if one.broken:
            console.print(f"{surface}: trial {one.trial}: {', '.join(one.broken)}{'; taken ungated' if ungated else ''}", markup=False)
        if ungated or not one.broken:
            return Winner(best.best, fitted, tuple(judged), table)
        left = [row for row in left if row["trial"] != one.trial]
        if len(judged) >= terms.most or not any(row["metrics"] for row in left):
            raise NoWinner(surface, judged)


def judge(
    trial: str,
    fitted: Fitted,
    lists: EvalLists,
    seed: int,
    terms: Terms,
    *,
    latency: Latency | None = None,
    floor: float | None = None,
) -> tuple[Judged, dict[str, dict[str, Row]]]:
    """Hold a trained ensemble against the terms on validation lists; also the table it was judged by.

    With `floor` it is served in the order of that floor, and not of the policy's, whose exposure it has to give all the same.
    """
    p = fitted.blend(lists).probabilities
    scores = {**baselines(lists, seed), RANKER: p}
    table = evaluate(scores, lists, probabilities=frozenset({RANKER}), seed=seed, n=terms.draws)
    findings = check({"validation": table}, terms.gate)
    differences = {name: versus(p, scores[name], lists, seed=seed, n=terms.draws) for name in BASELINES}
    placed = (
        ordered(terms.policy, p, lists.offsets, {"popularity_tier": lists.tiers}, PLACES) if floor is None else floored(floor, p, lists)
    )
    served = float(tail_share(placed, lists).mean())
    promised, spent = owed(terms.policy, lists), (latency or _latency)(fitted, lists)
    broken = []
    try:
        check_servable(fitted.counting())
    except ValueError as error:
        broken.append(str(error))
    broken += [f"calibration gate: {f}" for f in findings if f.verdict == Verdict.REFUSED]
    if served < promised - 1e-9:
        broken.append(f"tail exposure {served:.4f} below the {promised:.4f} that policy {terms.policy.name} owes")
    if spent > terms.latency_ms:
        broken.append(f"latency {spent:.1f} ms above the budget of {terms.latency_ms:g} ms")
    enough = int((lists.ideal_positives > 0).sum()) >= terms.fewest_lists
    for name, (value, *_) in differences.items():
        if enough and (value is None or value <= 0.0):
            broken.append(f"does not beat the baseline {name}: NDCG@10 {'unknown' if value is None else f'{value:+.4f}'} over it")
    order = table[RANKER]["all"]["ndcg10"][0]
    return Judged(trial, float("nan") if order is None else order, served, promised, spent, differences, tuple(broken)), table


def baselines(lists: EvalLists, seed: int) -> dict[str, NDArray[np.float64]]:
    """Scores of what a ranker has to beat: the retrieval's own order, what is bought most, and chance."""
    return {
        "noop": first_stage(lists.features).astype(np.float64),
        "popularity": lists.features[:, _POPULARITY].astype(np.float64),
        "shuffle": np.random.default_rng(seed).random(len(lists.labels)),
    }


def owed(policy: FairnessPolicy, lists: EvalLists) -> float:
    """Share of the first ten places that the policy gives tail and new items when scores are against them, as far as there are any."""
    against = np.where(lists.tiers == 0, 1.0, 0.0) + 1e-6 * np.arange(len(lists.tiers))[::-1] / max(len(lists.tiers), 1)
    worst = ordered(policy, against, lists.offsets, {"popularity_tier": lists.tiers}, PLACES)
    return float(tail_share(worst, lists).mean())


def _latency(fitted: Fitted, lists: EvalLists) -> float:
    """Milliseconds of processor time of scoring and blending one list, 95th percentile over some."""
    some = [lists.lists(np.array([i])) for i, (a, b) in enumerate(pairwise(lists.offsets)) if b > a][:_TIMED]
    fitted.blend(some[0])  # what is loaded once
    spent = []
    for one in some:
        start = time.process_time()  # what else runs on the machine does not count
        fitted.blend(one)
        spent.append(time.process_time() - start)
    return float(np.quantile(spent, 0.95) * 1e3)
