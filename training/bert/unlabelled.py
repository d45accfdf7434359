"""What reviews without labels are worth: an encoder that read them as a masked language model first, against one that did not.

Both are then tuned on the same few labelled reviews, in the same way and number of steps. Knows no source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ranking.metrics import macro_f1
from ranking.text import SpecialTokens
from training.bert import masked
from training.bert.compare import Encoder, ends, three, trained
from training.bert.data import Pairs
from training.bert.fit import Settings, outputs
from training.bert.heads import task
from training.bert.kept import NOTHING, Kept, digest

PLAIN, ADAPTED = "pretrained", "pretrained, then the unlabelled texts"
_SEED, _DRAWS, _STEPS = 11, 500, 120


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve.

    Attributes:
        start: where the weights come from.
        labelled: reviews with a label.
        macro_f1: value, low, high over test reviews; the mean over seeds.
        gain: of the paired difference to the encoder that read nothing; None for that one.
    """

    start: str
    labelled: int
    macro_f1: tuple[float, float, float]
    gain: tuple[float, float, float] | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def curves(
    encoder: Encoder,
    unlabelled: Pairs,
    pool: Pairs,
    test: Pairs,
    special: SpecialTokens,
    *,
    sizes: Sequence[int],
    settings: Settings,
    adapting: Settings = masked.SETTINGS,
    seeds: int = 2,
    kept: Kept = NOTHING,
) -> list[Point]:
    """Macro-F1 of the sentiment head, the most probable class, by start and number of labels.

    Args:
        encoder: makes the pretrained one.
        unlabelled: reviews of which only the texts are read.
        pool: labelled reviews, of which each seed draws its own; a smaller draw is part of a larger one.
        test: others, to judge on.
        special: framing ids.
        sizes: labelled reviews.
        settings: of the tuning; epochs are raised where they are fewer than 120 steps.
        adapting: of the masked language model.
        seeds: of the draw and the tuning; the encoder adapts once.
        kept: runs that were made before.
    """

    @lru_cache(maxsize=1)
    def adapted() -> Mapping[str, Any]:
        model = encoder()
        with TemporaryDirectory() as out:
            masked.adapt(model, unlabelled, special, Path(out), settings=adapting)
        return dict(model.state_dict())

    def after() -> Any:
        model = encoder()
        model.load_state_dict(adapted())
        return model

    starts: dict[str, Encoder] = {PLAIN: encoder, ADAPTED: after}
    truth = test.labels["sentiment"].astype(np.int64)
    draws = np.random.default_rng(_SEED).integers(0, len(truth), (_DRAWS, len(truth)))
    of = {"of": "unlabelled", "reviews": [digest(part) for part in (unlabelled, pool, test)], "adapting": asdict(adapting)}
    points = []
    for size in sizes:
        epochs = max(settings.epochs, ceil(_STEPS / ceil(size / settings.batch)))
        before: np.ndarray | None = None
        for name, start in starts.items():
            each = []
            for seed in range(seeds):
                chosen = replace(settings, seed=seed, epochs=epochs)
                inputs = of | {"start": name, "labelled": size, "settings": asdict(chosen)}
                each.append(np.array(kept(inputs, partial(_run, start, pool, test, special, size, chosen))["named"], np.int64))
            value = float(np.mean([macro_f1(named, truth) for named in each]))
            drawn = np.mean([[macro_f1(named[d], truth[d]) for d in draws] for named in each], axis=0)
            gain = None if before is None else three((value - points[-1].macro_f1[0], *ends(drawn - before)))
            points.append(Point(name, size, three((value, *ends(drawn))), gain))
            before = drawn
    return points


def _run(start: Callable[[], Any], pool: Pairs, test: Pairs, special: SpecialTokens, size: int, settings: Settings) -> dict[str, Any]:
    """One tuning: the class it names for each test review."""
    drawn = pool.take(np.random.default_rng(settings.seed).permutation(len(pool))[:size])
    model, _, _ = trained(start(), drawn, [task("sentiment")], special, settings=settings)
    return {"named": outputs(model, test, special)["sentiment"].argmax(axis=1).tolist()}
