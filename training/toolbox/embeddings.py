"""The toolbox on sentence vectors: who does not recommend a piece of clothing, from the words alone, and what a trial costs.

The encoder reads every text once; a trial then resamples vectors and trains a head. Knows the data's folder and the figures.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.calibrate import sigmoid
from training.imbalance.losses import LOSSES
from training.imbalance.resample import RESAMPLERS, resample
from training.members.contract import NO_LIST, Rows
from training.members.registry import train
from training.sources import clothing_reviews as source
from training.splits import stratified
from training.toolbox.binary import Measured, Yardstick, class_rows
from training.toolbox.effort import generator_options
from training.toolbox.embeddings_cache import Embedder
from training.toolbox.outcome import Kind, Outcome

DATA = "clothing_reviews"
TEXTS = 2000
_QUICK_TEXTS = 100
_SPLIT = (7, 3)
_TIMED = 400  # texts of the timed trials, each of which reads them all again
_REPEATS = 3
HEAD = {"hidden": (64,), "epochs": 10, "batch": 128}
ROW_LOSSES = ("bce", "weighted_bce", "focal", "class_balanced", "logit_adjusted", "balanced_softmax", "ldam")


@dataclass(frozen=True, slots=True)
class Vectors:
    """Training and test texts as vectors, label 1: not recommended."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int8]
    test: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trial:
    """Log-odds of the test texts with the resampling's shift undone, that shift, and the classes trained on."""

    scores: NDArray[np.float64]
    shift: float
    classes: list[list[float]]


class Method(Protocol):
    """A way to turn vectors into scores of the test texts."""

    def __call__(self, v: Vectors, seed: int, *, quick: bool) -> Trial: ...


def measure(folder: Path, cache: Path, *, quick: bool = False, seed: int = 0) -> tuple[list[Outcome], dict[str, float]]:
    """Every method's figures, and the benchmark's key.

    Args:
        folder: of the source's file.
        cache: folder in which vectors are kept.
        quick: few texts: shows that everything runs, not what it gains.
        seed: of the draw of texts, split, resampling and heads.

    Returns:
        Outcomes; ``embedding_trial_ratio``: seconds of a trial that reads the texts again over one that finds their vectors kept, medians
        of three, on 400 of the texts. The encoder is loaded before either.
    """
    texts, labels = read(folder, _QUICK_TEXTS if quick else TEXTS, seed=seed)
    tested = stratified(np.arange(len(texts)), labels, _SPLIT, seed=seed) == 1
    embed = Embedder(cache)
    x = embed(texts)
    vectors = Vectors(x[~tested], labels[~tested], x[tested])
    yardstick = Yardstick(labels[tested], np.zeros(int(tested.sum()), np.int64))
    outcomes: list[Outcome] = []
    measured: dict[str, Measured] = {}
    for kind, name, baseline, method, note in methods():
        start = time.perf_counter()
        try:
            trial = method(vectors, seed, quick=quick)
        except ValueError as error:  # methods say in words what they lack, such as neighbours
            outcomes.append(Outcome(DATA, kind, name, {}, 0.0, baseline, note=f"failed: {error}"))
            continue
        seconds = time.perf_counter() - start
        p = sigmoid(trial.scores)
        figures = yardstick.measure(p, trial.scores - trial.shift >= 0.0, against=measured.get(baseline))
        measured[name] = figures
        curves = yardstick.curves(p) | ({"classes": trial.classes} if kind == "resampler" else {})
        outcomes.append(Outcome(DATA, kind, name, {"all": figures.row}, round(seconds, 3), baseline, curves, note))
    return outcomes, {"embedding_trial_ratio": trial_ratio(texts[:_TIMED], labels[:_TIMED], tested[:_TIMED], embed, seed=seed)}


def read(folder: Path, count: int, *, seed: int) -> tuple[list[str], NDArray[np.int8]]:
    """`count` reviews with a text, title first, drawn at random, and whether each one does not recommend.

    Raises:
        FileNotFoundError, ValueError: as the source says.
    """
    with tempfile.TemporaryDirectory() as out:
        source.write_tables(Path(out), folder)
        table = pq.read_table(Path(out) / "reviews.parquet", columns=["title", "text", "recommended"]).to_pydict()
    written = [i for i, text in enumerate(table["text"]) if text.strip()]
    chosen = np.random.default_rng(seed).permutation(written)[:count]
    texts = [f"{table['title'][i]}. {table['text'][i]}" if table["title"][i] else table["text"][i] for i in chosen]
    return texts, np.array([1 - table["recommended"][i] for i in chosen], np.int8)


def trial_ratio(texts: Sequence[str], labels: NDArray[np.int8], tested: NDArray[np.bool_], embed: Embedder, *, seed: int) -> float:
    """Seconds of encode, resample and head over seconds of load, resample and head; medians."""
    embed(texts)

    def seconds(vectors_of: Callable[[Sequence[str]], NDArray[np.float32]]) -> float:
        start = time.perf_counter()
        x = vectors_of(texts)
        _resampled("random_over")(Vectors(x[~tested], labels[~tested], x[tested]), seed, quick=False)
        return time.perf_counter() - start

    cached = [seconds(embed) for _ in range(_REPEATS)]
    return float(np.median([seconds(embed.encode) for _ in range(_REPEATS)]) / np.median(cached))


def methods() -> list[tuple[Kind, str, str, Method, str]]:
    """(kind, name, baseline, method, note), the plain one of each kind first."""
    logistic, network = "Logistic regression on resampled vectors.", "A network with one hidden layer on the vectors."
    out: list[tuple[Kind, str, str, Method, str]] = [("resampler", "none", "", _resampled("none"), logistic)]
    out += [("resampler", name, "none", _resampled(name), logistic) for name in RESAMPLERS if name != "none"]
    out += [("loss", name, "" if name == "bce" else "bce", _head(loss=name), network) for name in ROW_LOSSES if name in LOSSES]
    return [
        *out,
        ("optimiser", "adamw", "", _head(), network),
        ("optimiser", "adagrad", "adamw", _head(optimiser="adagrad", learning_rate=0.03), network),
        ("ablation", "joint", "bce", _joint, "The whole network trained on balanced vectors."),
        (
            "ablation",
            "decoupled",
            "bce",
            _head(decoupled="random_over"),
            "Trained as they come, then the last layer again on balanced ones.",
        ),
    ]


def _balanced(name: str, v: Vectors, seed: int, *, quick: bool) -> tuple[Rows, float]:
    options = generator_options(name, quick=quick)
    made = resample(name, v.train, v.train_labels, strength=1.0, seed=seed, options=options)
    return Rows(made.features, made.labels, made.weights, np.full(len(made.labels), NO_LIST, np.int64)), made.offset


def _trained(v: Vectors, rows: Rows, member: str, shift: float, seed: int, **options: Any) -> Trial:
    scorer = train(member, rows, seed=seed, options=options)
    return Trial(scorer.logits(v.test) + shift, shift, class_rows(v.train_labels, rows.labels, rows.weights))


def _resampled(name: str) -> Method:
    def method(v: Vectors, seed: int, *, quick: bool) -> Trial:
        rows, shift = _balanced(name, v, seed, quick=quick)
        return _trained(v, rows, "logistic", shift, seed, strength=0.01)

    return method


def _head(**options: Any) -> Method:
    return lambda v, seed, *, quick: _trained(v, Rows.of(v.train, v.train_labels), "neural", 0.0, seed, **HEAD, **options)


def _joint(v: Vectors, seed: int, *, quick: bool) -> Trial:
    rows, shift = _balanced("random_over", v, seed, quick=quick)
    return _trained(v, rows, "neural", shift, seed, **HEAD)
