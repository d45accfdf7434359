"""Training the sentiment model: what is split off, how long it learns, and what is fitted on validation reviews only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.metrics import macro_f1
from ranking.types import FloatArray
from training.artefacts import write_text
from training.bert import encoder as encoders
from training.bert import tuning
from training.bert.data import Pairs
from training.bert.fit import Settings, fit, steps_of
from training.bert.heads import task
from training.bert.kept import digest
from training.bert.model import Heads
from training.sentiment import MODELS, words
from training.sentiment.decide import best_offsets, decide, stable_offsets
from training.sentiment.judge import curves, figures
from training.sentiment.model import TASKS, Facts, Seen, Sentiment, load_heads, save_heads, special, tokenised
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
    models: int = MODELS,
    encoder: Callable[[], Any] = encoders.load,
    method: str = "full",
    resume: bool = False,
) -> dict[str, Any]:
    """Train on eight tenths of the reviews, fit offsets and blend on one, measure on the last, and save into `out`.

    Args:
        reviews: all there are.
        out: the model's folder; checkpoints lie in `checkpoints` below it until the end.
        settings: of each training; of the positive reviews an epoch reads `share`, in turns.
        models: encoders, tuned one after the other from `settings.seed` on; they read as one.
        encoder: makes what is tuned; default: the pretrained one.
        method: of `tuning.METHODS`; what it adds must fold into the encoder.
        resume: go on where an interrupted training of the same reviews and settings was; it may have been of fewer or more encoders.

    Returns:
        Figures on the test part, by `judge.figures`, and how long it took.
    """
    if models < 1:
        raise ValueError(f"models: need at least one, got {models}")
    train_part, valid, test = parts(reviews, settings.seed)
    lexical = words.train(train_part, seed=settings.seed)
    checkpoints, pairs = out / "checkpoints", tokenised(train_part)
    _take_up(checkpoints, {"reviews": digest(pairs), "method": method} | asdict(replace(settings, checkpoints=0)), resume=resume)
    tuned, runs = [], []
    for i in range(models):
        chosen = replace(settings, seed=settings.seed + i)
        model, run = _tuned(pairs, checkpoints / str(i), chosen, encoder, method, f"sentiment {i + 1} of {models}")
        tuned.append(model)
        runs.append(run)
    made = Sentiment(tuple(tuned), lexical, Facts(seed=settings.seed), Seen.of(train_part, valid))
    seconds = round(sum(run["seconds"] for run in runs), 1)
    run = {"reviews": len(reviews), "models": models, "seconds": seconds, "steps": sum(run["steps"] for run in runs)}
    told = _kept(made, valid, test, out, run, runs[0]["history"])
    shutil.rmtree(checkpoints, ignore_errors=True)
    return told


def _take_up(checkpoints: Path, asked: dict[str, Any], *, resume: bool) -> None:
    """Say in the folder what is trained, or see that it is what was: an encoder of another split would be judged on what it has read."""
    said = checkpoints / "asked.json"
    if resume and said.is_file():
        before = json.loads(said.read_text(encoding="utf-8"))
        if other := [name for name in asked if before.get(name) != asked[name]]:
            raise ValueError(f"resume: the interrupted training had other {', '.join(other)}; ask for the same, or start anew without it")
        return
    shutil.rmtree(checkpoints, ignore_errors=True)
    write_text(said, json.dumps(asked))


def _tuned(
    pairs: Pairs, folder: Path, settings: Settings, encoder: Callable[[], Any], method: str, what: str
) -> tuple[Heads, dict[str, Any]]:
    """One encoder with its heads, from the newest checkpoint in the folder, or as it was left there when it was done; and how it ran."""
    done, told = folder / "done", folder / "done" / "run.json"
    if told.is_file():
        return load_heads(done), dict(json.loads(told.read_text(encoding="utf-8")))
    common = pairs.labels["sentiment"] == 2
    taken = int((~common).sum() + np.ceil(settings.share * common.sum()))
    tuned = tuning.apply(method, encoder(), steps_of(settings, taken), seed=settings.seed)
    model = Heads.seeded(tuned, [replace(task(name), weight=WEIGHTS[name]) for name in TASKS], settings.seed)
    ran = fit(model, pairs, special(), folder, settings=settings, common=common, resume=True, what=what)
    model.encoder = tuning.plain(model.encoder)
    run = {"seconds": ran.seconds, "steps": ran.steps, "history": ran.history}
    save_heads(model, done)
    write_text(told, json.dumps(run))  # last: without it the rest is not there
    return model, run


def settle(reviews: Reviews, out: Path) -> dict[str, Any]:
    """Find a stored model's offsets and blend anew, on the validation reviews of its own split, and measure it on its test reviews.

    Args:
        reviews: those it was trained with, in the same order.
        out: the model's folder.

    Returns:
        As `train`.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it was trained with another number of reviews.
    """
    stored = Sentiment.load(out)
    before = stored.facts.training
    if before.get("reviews") != len(reviews):
        raise ValueError(f"reviews: {len(reviews)}, the stored model was trained with {before.get('reviews')}")
    train_part, valid, test = parts(reviews, stored.facts.seed)
    made = replace(stored, seen=Seen.of(train_part, valid))
    run = {key: before[key] for key in ("reviews", "models", "seconds", "steps")}
    return _kept(made, valid, test, out, run, before["history"], weights=False)


def parts(reviews: Reviews, seed: int) -> tuple[Reviews, Reviews, Reviews]:
    """Training, validation and test reviews, by `RATIO`."""
    part = stratified(np.arange(len(reviews)), reviews.ratings, RATIO, seed=seed)
    train_part, valid, test = (reviews.take(np.flatnonzero(part == i)) for i in range(len(RATIO)))
    return train_part, valid, test


def _kept(
    made: Sentiment, valid: Reviews, test: Reviews, out: Path, run: dict[str, Any], history: Any, *, weights: bool = True
) -> dict[str, Any]:
    """Find what validation decides, measure on the test reviews, and save."""
    made = replace(made, facts=fitted(made, valid))
    read = made.read(test)
    told = run | {
        "test": {name: figures(one, test) for name, one in read.items()},
        "pr": {name: curves(one, test) for name, one in read.items() if name in ("bert", "words")},
        "history": history,
    }
    replace(made, facts=replace(made.facts, training=told)).save(out, weights=weights)
    return told


def fitted(model: Sentiment, valid: Reviews) -> Facts:
    """The model's facts with offsets and the blend's share found on validation reviews."""
    read, truth = model.read(valid), valid.classes
    bert, lexical = read["bert"].scores, read["words"].scores
    mixed = {share: share * bert + (1 - share) * lexical for share in _SHARES.tolist()}
    share = max(mixed, key=lambda one: _value(mixed[one], best_offsets(mixed[one], truth), truth))
    return replace(
        model.facts,
        offsets=_tuple(stable_offsets(bert, truth)),
        words_offsets=_tuple(stable_offsets(lexical, truth)),
        blend=share,
        blend_offsets=_tuple(stable_offsets(mixed[share], truth)),
    )


def _value(scores: FloatArray, offsets: FloatArray, truth: NDArray[np.int64]) -> float:
    return macro_f1(decide(scores, offsets), truth)


def _tuple(offsets: FloatArray) -> tuple[float, ...]:
    return tuple(round(float(x), 4) for x in offsets)
