"""Training the sentiment model: what is split off, how long it learns, and what is fitted on validation reviews only."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.metrics import macro_f1
from ranking.types import FloatArray
from training.bert import encoder as encoders
from training.bert import tuning
from training.bert.fit import Settings, fit, steps_of
from training.bert.heads import task
from training.bert.model import Heads
from training.sentiment import words
from training.sentiment.decide import best_offsets, decide
from training.sentiment.judge import curves, figures
from training.sentiment.model import TASKS, Facts, Sentiment, special, tokenised
from training.sentiment.reviews import Reviews
from training.splits import stratified

RATIO = (8, 1, 1)  # training, validation (offsets and blend), test (the figures that are printed)
WEIGHTS = {"sentiment": 1.0, "stars": 0.3, "recommended": 0.3}
SETTINGS = Settings(epochs=3, learning_rate=1e-4, head_rate=10.0, layer_decay=0.85, batch=24, share=1 / 3)
_SHARES = np.linspace(0.0, 1.0, 11)


def train(
    reviews: Reviews,
    out: Path,
    *,
    settings: Settings = SETTINGS,
    encoder: Any = None,
    method: str = "full",
    resume: bool = False,
) -> dict[str, Any]:
    """Train on eight tenths of the reviews, fit offsets and blend on one, measure on the last, and save into `out`.

    Args:
        reviews: all there are.
        out: the model's folder; checkpoints lie in `checkpoints` below it until the end.
        settings: of the training; of the positive reviews an epoch reads `share`, in turns.
        encoder: default: the pretrained one.
        method: of `tuning.METHODS`; what it adds must fold into the encoder.
        resume: go on from a checkpoint.

    Returns:
        Figures on the test part, by `judge.figures`, and how long it took.
    """
    part = stratified(np.arange(len(reviews)), reviews.ratings, RATIO, seed=settings.seed)
    train_part, valid, test = (reviews.take(np.flatnonzero(part == i)) for i in range(len(RATIO)))
    lexical = words.train(train_part, seed=settings.seed)
    common = train_part.classes == 2
    taken = int((~common).sum() + np.ceil(settings.share * common.sum()))
    tuned = tuning.apply(method, encoder or encoders.load(), steps_of(settings, taken), seed=settings.seed)
    model = Heads(tuned, [replace(task(name), weight=WEIGHTS[name]) for name in TASKS])
    checkpoints = out / "checkpoints"
    ran = fit(model, tokenised(train_part), special(), checkpoints, settings=settings, common=common, resume=resume, what="sentiment")
    model.encoder = tuning.plain(model.encoder)
    facts = fitted(Sentiment(model, lexical, Facts(seed=settings.seed)), valid)
    made = Sentiment(model, lexical, facts)
    read = made.read(test)
    told = {
        "reviews": len(reviews),
        "seconds": round(ran.seconds, 1),
        "steps": ran.steps,
        "test": {name: figures(one, test) for name, one in read.items()},
        "pr": {name: curves(one, test) for name, one in read.items() if name in ("bert", "words")},
        "history": ran.history,
    }
    Sentiment(model, lexical, replace(facts, training=told)).save(out)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return told


def fitted(model: Sentiment, valid: Reviews) -> Facts:
    """The model's facts with offsets and the blend's share found on validation reviews."""
    read, truth = model.read(valid), valid.classes
    bert, lexical = read["bert"].scores, read["words"].scores
    tried = [(share, best_offsets(share * bert + (1 - share) * lexical, truth)) for share in _SHARES]
    share, both = max(tried, key=lambda one: _value(one[0] * bert + (1 - one[0]) * lexical, one[1], truth))
    return replace(
        model.facts,
        offsets=_tuple(best_offsets(bert, truth)),
        words_offsets=_tuple(best_offsets(lexical, truth)),
        blend=float(share),
        blend_offsets=_tuple(both),
    )


def _value(scores: FloatArray, offsets: FloatArray, truth: NDArray[np.int64]) -> float:
    return macro_f1(decide(scores, offsets), truth)


def _tuple(offsets: FloatArray) -> tuple[float, ...]:
    return tuple(round(float(x), 4) for x in offsets)
