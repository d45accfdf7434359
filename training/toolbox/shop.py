"""The toolbox on the generated shop, judged by the truth: does the tail get what it deserves, and what does the whole list pay?

A method's strength is chosen on validation lists; figures are of test lists. Knows lists and figures; the methods are in `shop_methods.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranking.metrics import (
    bootstrap_interval,
    ndcg_of_lists,
    paired_bootstrap_interval,
    recall_of_lists,
    share_of_lists,
    top_of_lists,
)
from ranking.types import FloatArray
from training.release.evaluate import Row, as_row
from training.toolbox.outcome import GAIN, Named, Outcome
from training.toolbox.shop_data import TEST, TRAIN, VALID, Shop, read, shop
from training.toolbox.shop_methods import Bench, Method, Tried, methods, plain

DATA = "imbalanced_shop"
SLACK = 0.005
"""How much NDCG@10 a strength may cost on validation lists: half of what counts as equal, since test lists are others."""
_QUICK_LISTS = 600
_DRAWS = 1000
_K = 10


@dataclass(frozen=True, slots=True)
class Measures:
    """Per list of one part: NDCG@10 against the truth, recall@10 of what the user would have taken, and the tail's places."""

    ndcg10: FloatArray
    tail_recall10: FloatArray
    head_recall10: FloatArray
    tail_share10: FloatArray


def measure(folder: Path | None = None, *, quick: bool = False, seed: int = 0) -> tuple[list[Outcome], dict[str, float]]:
    """Every method's figures, and the benchmark's keys.

    Args:
        folder: canonical tables of the source; default: generated here.
        quick: few lists and trees: shows that everything runs, not what it gains.
        seed: of split, resampling and models.

    Returns:
        Outcomes; ``shop_tail_recall_ratio`` and ``shop_ndcg_difference`` of the method that is best on the validation lists, against plain
        LightGBM: tail recall@10 as a ratio, NDCG@10 as a difference.
    """
    data = shop(read(folder), lists=_QUICK_LISTS if quick else None, seed=seed)
    bench = Bench.of(data, seed=seed, quick=quick)
    yardsticks = {part: Yardstick.of(data, part) for part in (VALID, TEST)}
    base = plain(bench)[0]
    reference = yardsticks[VALID].measures(base.scores)
    outcomes: list[Outcome] = []
    tested: dict[str, Measures] = {}
    best, best_recall = "", -1.0
    for named in methods():
        start = time.perf_counter()
        try:
            tried = named.method(bench)
        except ValueError as error:  # methods say in words what they lack, such as neighbours
            outcomes.append(Outcome(DATA, named.kind, named.name, {}, 0.0, named.baseline, note=f"failed: {error}"))
            continue
        seconds = time.perf_counter() - start
        validated = [yardsticks[VALID].measures(one.scores) for one in tried]
        chosen = choose(validated, reference)
        recall, cost = float(np.nanmean(validated[chosen].tail_recall10)), _cost(validated[chosen], reference)
        if cost <= SLACK and recall > best_recall:
            best, best_recall = named.name, recall
        tested[named.name] = yardsticks[TEST].measures(tried[chosen].scores)
        outcomes.append(_outcome(named, tried, chosen, tested, bench, seconds))
    ours, theirs = tested[best], tested["boosting"]
    ratio = float(np.nanmean(ours.tail_recall10) / np.nanmean(theirs.tail_recall10))
    difference = float(np.nanmean(ours.ndcg10) - np.nanmean(theirs.ndcg10))
    return outcomes, {"shop_tail_recall_ratio": ratio, "shop_ndcg_difference": difference}


@dataclass(frozen=True)
class Yardstick:
    """The lists of one part and the truth about them."""

    data: Shop
    rows: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, data: Shop, part: int) -> Yardstick:
        rows = data.rows(part)
        starts = np.flatnonzero(np.diff(data.lists[rows], prepend=-1))
        return cls(data, rows, np.append(starts, len(rows)))

    def measures(self, scores: FloatArray) -> Measures:
        """Of (N,) scores of all candidates."""
        d, rows, offsets = self.data, self.rows, self.offsets
        s = scores[rows]
        top = top_of_lists(s, offsets, _K)
        wanted, tail = d.relevant[rows], d.tail[rows]
        return Measures(
            ndcg_of_lists(s, d.relevance[rows], offsets, k=_K, top=top),
            recall_of_lists(s, (wanted & tail).astype(np.float64), offsets, k=_K, top=top),
            recall_of_lists(s, (wanted & ~tail).astype(np.float64), offsets, k=_K, top=top),
            share_of_lists(s, tail, offsets, k=_K, top=top),
        )


def choose(validated: list[Measures], reference: Measures) -> int:
    """Index of the strength to take: the most tail recall where NDCG is at most `SLACK` below the plain model's, else the least costly."""
    costs = [_cost(one, reference) for one in validated]
    allowed = [i for i, cost in enumerate(costs) if cost <= SLACK] or [int(np.argmin(costs))]
    return max(allowed, key=lambda i: float(np.nanmean(validated[i].tail_recall10)))


def _cost(ours: Measures, reference: Measures) -> float:
    return float(np.nanmean(reference.ndcg10) - np.nanmean(ours.ndcg10))


def _outcome(named: Named[Method], tried: list[Tried], chosen: int, tested: dict[str, Measures], bench: Bench, seconds: float) -> Outcome:
    ours, theirs = tested[named.name], tested.get(named.baseline)
    overall: Row = {metric: as_row(bootstrap_interval(getattr(ours, metric), 5, n=_DRAWS)) for metric in ours.__slots__}
    if theirs is not None:
        for metric in ("ndcg10", "tail_recall10", "head_recall10"):
            gain = paired_bootstrap_interval(getattr(ours, metric), getattr(theirs, metric), 5, n=_DRAWS)
            overall[metric + GAIN] = as_row(gain)
    groups = {"head": {"recall10": overall["head_recall10"]}, "tail": {"recall10": overall["tail_recall10"]}}
    one = tried[chosen]
    note = named.note + (f" Strength {one.strength:g}, chosen on validation lists." if len(tried) > 1 else "")
    s = bench.shop
    clicked = (s.part == TRAIN) & (s.labels == 1)
    before = (int((clicked & ~s.tail).sum()), int((clicked & s.tail).sum()), int((bench.shop.labels[bench.chosen] == 0).sum()))
    curves = {"classes": [[float(c), float(b), round(a, 1)] for c, (b, a) in enumerate(zip(before, one.classes, strict=True))]}
    return Outcome(DATA, named.kind, named.name, {"all": overall, **groups}, round(seconds, 3), named.baseline, curves, note)
