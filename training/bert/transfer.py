"""Transfer: a ranker trained on one source, adapted to another with few labelled lists, against rankers that start without that source.

Every start is adapted in the same way on the same lists; what differs is where its weights come from. Knows no source.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ranking.metrics.intervals import bootstrap_interval, paired_bootstrap_interval
from ranking.text import SpecialTokens
from ranking.types import FloatArray
from training.bert.compare import Encoder, ndcg, ranked, three, trained
from training.bert.fit import Settings, fit
from training.bert.heads import task
from training.bert.kept import NOTHING, Kept, digest
from training.bert.lists import Lists
from training.bert.model import Heads

TRANSFERRED, PRETRAINED, UNTRAINED = "transferred", "pretrained", "from scratch"
SIZES = (10, 50, 200)
_SEED, _DRAWS = 11, 500


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve.

    Attributes:
        source: what `transferred` was trained on, and `target` where it is to rank.
        start: where the weights come from.
        lists: labelled lists of the target; 0: it ranks as it starts.
        ndcg10: value, low, high, over test lists; each list's value is the mean over seeds.
        gains: by other start, value, low and high of the paired difference to it.
    """

    source: str
    target: str
    start: str
    lists: int
    ndcg10: tuple[float, float, float]
    gains: dict[str, tuple[float, float, float]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def curves(
    names: tuple[str, str],
    source: Lists,
    pool: Lists,
    test: Lists,
    special: SpecialTokens,
    *,
    pretrained: Encoder,
    untrained: Encoder,
    settings: Settings,
    sizes: Sequence[int] = SIZES,
    seeds: int = 3,
    kept: Kept = NOTHING,
) -> list[Point]:
    """Learning curves of the three starts.

    Args:
        names: of source and target.
        source: lists that `transferred` is trained on first.
        pool: of the target, from which each seed draws its labelled lists; a smaller draw is part of a larger one.
        test: of the target; no list of the pool.
        special: framing ids.
        pretrained: makes the encoder that `transferred` and `pretrained` start from.
        untrained: makes the one that `from scratch` does.
        settings: of every run, on the source and on the target.
        sizes: labelled lists; those the pool does not have are left out.
        seeds: of the draw and the training.
        kept: runs that were made before.
    """

    @lru_cache(maxsize=1)
    def on_source() -> Heads:
        return trained(pretrained(), source.pairs, [task("list")], special, settings=settings)[0]

    starts: dict[str, Callable[[], Heads]] = {
        TRANSFERRED: on_source,
        PRETRAINED: lambda: Heads(pretrained(), [task("list")]),
        UNTRAINED: lambda: Heads(untrained(), [task("list")]),
    }
    points = []
    of = {"of": "transfer", "names": names, "data": [digest(part.pairs) for part in (source, pool, test)]}
    for size in (0, *(s for s in sizes if s <= len(pool))):
        found = {
            name: _mean_over_seeds(start, pool, test, special, settings, size, seeds, kept, of | {"start": name, "lists": size})
            for name, start in starts.items()
        }
        for name, values in found.items():
            gains = {other: three(paired_bootstrap_interval(values, found[other], _SEED, n=_DRAWS)) for other in found if other != name}
            points.append(Point(*names, name, size, three(bootstrap_interval(values, _SEED, n=_DRAWS)), gains))
    return points


def _mean_over_seeds(
    start: Callable[[], Heads],
    pool: Lists,
    test: Lists,
    special: SpecialTokens,
    settings: Settings,
    size: int,
    seeds: int,
    kept: Kept,
    inputs: Mapping[str, Any],
) -> FloatArray:
    def run(chosen: Settings) -> dict[str, Any]:
        model = copy.deepcopy(start())
        if size:
            drawn = pool.take(np.random.default_rng(chosen.seed).permutation(len(pool))[:size])
            model.requires_grad_(requires_grad=True)
            adapt(model, drawn, special, chosen)
        return {"values": ndcg(ranked(model, test, special), test).tolist()}

    each = [replace(settings, seed=seed) for seed in range(seeds if size else 1)]
    found: FloatArray = np.mean([kept({**inputs, "settings": asdict(one)}, partial(run, one))["values"] for one in each], axis=0)
    return found


def adapt(model: Heads, lists: Lists, special: SpecialTokens, settings: Settings) -> None:
    """Train a ranker that is there on these lists, in place."""
    pairs = replace(lists.pairs, labels={"list": lists.pairs.labels["list"]})
    with TemporaryDirectory() as out, torch.random.fork_rng():
        fit(model, pairs, special, Path(out), settings=settings, what=f"adapt on {len(lists)} lists")
