"""Heads × ways of tuning, side by side: quality with its interval, trainable parameters, seconds, learning curve.

Knows data as lists or reviews, and no source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.metrics import macro_f1, ndcg_of_lists
from ranking.metrics.intervals import bootstrap_interval, paired_bootstrap_interval
from ranking.text import SpecialTokens
from ranking.types import FloatArray
from training.bert import tuning
from training.bert.data import Pairs
from training.bert.fit import Fitted, Settings, fit, outputs, steps_of
from training.bert.heads import Task, task
from training.bert.kept import NOTHING, Kept, digest
from training.bert.lists import Lists
from training.bert.model import Heads

Encoder = Callable[[], Any]
_SEED, _DRAWS, _FIRST = 11, 500, 10


@dataclass(frozen=True, slots=True)
class Tuned:
    """One row of the table.

    Attributes:
        data: what was ranked or read.
        head: tasks, joined by `+`.
        method: of `tuning.METHODS`.
        metric: what `quality` is.
        quality: value, low, high.
        gain: the same of the paired difference to full tuning of that head; None for full tuning itself.
        trainable: parameters of the encoder that were trained; the heads are alike for all methods and not counted.
        total: parameters of the encoder.
        seconds: of the processor, for one training.
        learning: (step, loss), of the first seed.
        seeds: the mean quality of each training, where there are several; `quality` and `gain` are of each list's mean over them.
    """

    data: str
    head: str
    method: str
    metric: str
    quality: tuple[float, float, float]
    gain: tuple[float, float, float] | None
    trainable: int
    total: int
    seconds: float
    learning: list[tuple[int, float]] = field(default_factory=list)
    seeds: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def trained(
    encoder: Any, pairs: Pairs, tasks: Sequence[Task], special: SpecialTokens, *, method: str = "full", settings: Settings
) -> tuple[Heads, tuning.Counted, Fitted]:
    """A model of these tasks tuned by the method, what of its encoder was trained, and how the run went."""
    steps = steps_of(settings, len(pairs))
    tuned = tuning.apply(method, encoder, steps, seed=settings.seed)
    counted = tuning.count(tuned)
    model = Heads.seeded(tuned, tasks, settings.seed)
    faster = replace(
        settings, learning_rate=settings.learning_rate * tuning.RATES[method], head_rate=settings.head_rate / tuning.RATES[method]
    )
    chosen = replace(pairs, labels={one.name: pairs.labels[one.name] for one in tasks})
    with TemporaryDirectory() as out:
        ran = fit(model, chosen, special, Path(out), settings=faster, what=f"{'+'.join(t.name for t in tasks)}, {method}")
    model.encoder = tuning.plain(model.encoder)
    return model, counted, ran


def ranked(model: Heads, lists: Lists, special: SpecialTokens, *, by: str = "") -> FloatArray:
    """(p,) scores of a ranking head, the first one's by default."""
    name = by or model.tasks[0].name
    return outputs(model, lists.pairs, special)[name][:, 0].astype(np.float64)


def ndcg(scores: FloatArray, lists: Lists) -> FloatArray:
    """(L,) NDCG@10 with linear gains."""
    found: FloatArray = ndcg_of_lists(scores, lists.gains, lists.pairs.offsets, k=_FIRST)
    return found


def rankers(
    encoder: Encoder,
    data: str,
    train: Lists,
    test: Lists,
    special: SpecialTokens,
    *,
    heads: Sequence[str],
    methods: Sequence[str],
    settings: Settings,
    seeds: int = 1,
    kept: Kept = NOTHING,
) -> list[Tuned]:
    """Every head by every method, full tuning first, on the same lists; quality is NDCG@10 with intervals over test lists.

    Each is trained `seeds` times, from `settings.seed` on; trainings that are kept are not made again.
    """
    rows = []
    lists = [digest(part.pairs) for part in (train, test)]
    for head in heads:
        full: FloatArray | None = None
        for method in _full_first(methods):
            runs = []
            for seed in range(settings.seed, settings.seed + seeds):
                chosen = replace(settings, seed=seed)
                inputs = {"of": "ranker", "data": data, "lists": lists, "head": head, "method": method, "settings": asdict(chosen)}
                runs.append(kept(inputs, partial(_ranker, encoder, train, test, special, head, method, chosen)))
            each = [np.array(one["values"]) for one in runs]
            values: FloatArray = np.mean(each, axis=0)
            gain = None if full is None else paired_bootstrap_interval(values, full, _SEED, n=_DRAWS)
            full = values if full is None else full
            quality = bootstrap_interval(values, _SEED, n=_DRAWS)
            row = _row(data, head, method, "NDCG@10", quality, gain, runs)
            rows.append(replace(row, seeds=[round(float(np.nanmean(one)), 5) for one in each] if seeds > 1 else []))
    return rows


def _ranker(
    encoder: Encoder, train: Lists, test: Lists, special: SpecialTokens, head: str, method: str, settings: Settings
) -> dict[str, Any]:
    """One training: its test lists' NDCG@10, and what `_row` tells."""
    tasks = [task(name) for name in head.split("+")]
    model, counted, ran = trained(encoder(), train.pairs, tasks, special, method=method, settings=settings)
    return {"values": ndcg(ranked(model, test, special), test).tolist(), **_told(counted, ran)}


def _told(counted: tuning.Counted, ran: Fitted) -> dict[str, Any]:
    return {"trainable": counted.trainable, "total": counted.total, "seconds": ran.processor, "history": ran.history}


def readers(
    encoder: Encoder,
    train: Pairs,
    valid: Pairs,
    test: Pairs,
    special: SpecialTokens,
    *,
    methods: Sequence[str],
    settings: Settings,
    kept: Kept = NOTHING,
) -> list[Tuned]:
    """The sentiment head by every method; quality is macro-F1 with offsets found on `valid`, intervals over test reviews."""
    from training.sentiment.decide import best_offsets, decide

    truth, known = (part.labels["sentiment"].astype(np.int64) for part in (test, valid))
    draws = np.random.default_rng(_SEED).integers(0, len(truth), (_DRAWS, len(truth)))
    rows: list[Tuned] = []
    reviews = [digest(part) for part in (train, valid, test)]
    full: NDArray[np.int64] | None = None
    for method in _full_first(methods):
        inputs = {"of": "reader", "reviews": reviews, "method": method, "settings": asdict(settings)}
        run = kept(inputs, partial(_reader, encoder, train, valid, test, special, method, settings))
        offsets = best_offsets(np.array(run["valid"]), known)
        named = decide(np.array(run["test"]), offsets)
        values = np.array([macro_f1(named[d], truth[d]) for d in draws])
        quality = (macro_f1(named, truth), *ends(values))
        gain = None
        if full is not None:
            theirs = np.array([macro_f1(full[d], truth[d]) for d in draws])
            gain = (quality[0] - macro_f1(full, truth), *ends(values - theirs))
        full = named if full is None else full
        rows.append(_row("clothing_reviews", "sentiment", method, "macro-F1", quality, gain, [run]))
    return rows


def _reader(
    encoder: Encoder, train: Pairs, valid: Pairs, test: Pairs, special: SpecialTokens, method: str, settings: Settings
) -> dict[str, Any]:
    """One training: its outputs on validation and test reviews, and what `_row` tells."""
    model, counted, ran = trained(encoder(), train, [task("sentiment")], special, method=method, settings=settings)
    read = {name: outputs(model, part, special)["sentiment"].tolist() for name, part in (("valid", valid), ("test", test))}
    return read | _told(counted, ran)


def _full_first(methods: Sequence[str]) -> list[str]:
    return ["full", *(m for m in methods if m != "full")]


def _row(
    data: str,
    head: str,
    method: str,
    metric: str,
    quality: Sequence[float],
    gain: Sequence[float] | None,
    runs: Sequence[Mapping[str, Any]],
) -> Tuned:
    told = None if gain is None else three(gain)
    first, seconds = runs[0], round(sum(run["seconds"] for run in runs) / len(runs), 2)
    learning = [(int(step), float(loss)) for step, loss in first["history"]]
    return Tuned(data, head, method, metric, three(quality), told, first["trainable"], first["total"], seconds, learning)


def three(values: Sequence[float]) -> tuple[float, float, float]:
    """Value, low and high as they are kept."""
    a, b, c = (round(float(v), 5) for v in values)
    return a, b, c


def ends(draws: FloatArray) -> tuple[float, float]:
    """The 95 % interval of bootstrap draws."""
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
