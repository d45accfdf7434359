"""`longtail bench search`: ensemble trials per minute on what is kept, against the same trials when each reads and encodes anew.

Both run on the same Ray with the same resources and the same configurations; with nothing kept every trial reads its files, has the text
members score every list and trains its own members.
"""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ranking.features import stable_key
from ranking.layout import Layout
from ranking.types import Surface
from training.artefacts import digest, load_ensemble_data
from training.host import host
from training.lists.arrays import EnsembleData, EvalLists
from training.search.choices import Choices
from training.search.choose import ENSEMBLE
from training.search.fits import FOLDER, Fits, Trial
from training.search.journal import Journal, Row
from training.search.order import Order
from training.search.samplers import sampler
from training.stage import ROOT
from training.toolbox.bench import Mark, meets

WANTED: Mapping[str, Mark] = {"trials_ratio": (">=", 20.0)}
SEARCHED = Choices(members=("boosting+bert", "logistic+bert+bm25"), resamplers=("none", "random_under"), calibrators=("platt",))


@dataclass(frozen=True, slots=True)
class Ran:
    """Trials that ran, and the seconds from the order to the last result."""

    rows: Sequence[Row]
    seconds: float

    @property
    def per_minute(self) -> float:
        return 60.0 * len(self.rows) / self.seconds

    @property
    def computing(self) -> float:
        """Mean seconds a trial computed."""
        return float(np.mean([row["seconds"] for row in self.rows]))

    def beside(self, processes: int) -> float:
        """Seconds in which a process of the search computed no trial, on average: its start and what Ray does between trials."""
        return self.seconds - self.computing * len(self.rows) / processes


@dataclass(frozen=True, slots=True)
class Files:
    """What a trial reads that keeps nothing: the demo's own files."""

    scores: Path
    frames: Path
    model: Path
    lists: int


def run(layout: Layout, *, quick: bool = False) -> dict[str, Any]:
    """Measure on the demo's search lists.

    Args:
        layout: the state directory, after `longtail train`.
        quick: few lists and trials: shows that it runs.

    Raises:
        FileNotFoundError: there is no demo; the message names the command.
    """
    files = Files(
        layout.training / "scores" / f"{Surface.SEARCH.value}.npz",
        layout.training / "frames" / "frames.pickle",
        layout.training / "bert" / "model.onnx",
        6 if quick else 10**9,
    )
    for file in (files.scores, files.frames, files.model):
        if not file.exists():
            raise FileNotFoundError(f"{file}: not there; `make demo` or `longtail train` makes it")
    data = _some(load_ensemble_data(files.scores), files.lists)
    rounds, seed = (5, 0) if quick else (50, 0)
    trials, without = (4, 1) if quick else (24, 2)
    processes = os.cpu_count() or 1
    kept = _ran(layout, "kept", None, data, data, trials, rounds, seed)
    anew = _ran(layout, "without", encoding, files, data, without, rounds, seed)
    figures = {
        "trials_per_minute": kept.per_minute,
        "trials_per_minute_without": anew.per_minute,
        "trials_ratio": kept.per_minute / anew.per_minute,
        "computing_seconds_mean": kept.computing,
        "computing_seconds_mean_without": anew.computing,
        "computing_ratio": anew.computing / kept.computing,  # whatever Ray costs, and however many trials share a start
        "beside_seconds": kept.beside(processes),
        "beside_seconds_without": anew.beside(processes),
        "metrics_apart": apart(kept.rows, anew.rows),
        "trials": float(trials),
        "trials_without": float(without),
        "rows": float(len(data.train.labels)),
        "lists": float(len(data.calibrate) + len(data.select)),
    }
    return {
        "bench": "search",
        "revision": _revision(),
        "host": host(),
        "quick": quick,
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "wanted": {name: list(mark) for name, mark in WANTED.items()},
        "met": {name: meets(figures[name], mark) for name, mark in WANTED.items()},
    }


def apart(some: Sequence[Row], others: Sequence[Row]) -> float:
    """Most that a metric of a trial differs between the two, of the trials that both ran."""
    found = {row["number"]: row["metrics"] for row in others}
    both = [(row["metrics"], found[row["number"]]) for row in some if row["number"] in found]
    return max(abs(a[name] - b[name]) for a, b in both for name in a)


def encoding(config: Mapping[str, Any], files: Files, seed: int, folder: Path, seen: int) -> Iterator[tuple[dict[str, float], bool]]:
    """The same trial where nothing is kept: the files are read, and every text of the lists is encoded."""
    yield from Trial()(config, with_scores(files), seed, folder, seen)


def with_scores(files: Files) -> EnsembleData:
    """The demo's rows and lists, the text members' scores computed anew."""
    from tokenizers import Tokenizer

    from training.members import bert, bm25
    from training.tables.tokens import tokenizer_file

    data = _some(load_ensemble_data(files.scores), files.lists)
    with files.frames.open("rb") as file:
        frame = pickle.load(file)["frames"][Surface.SEARCH, "valid"]  # noqa: S301 (the pipeline's own, of this checkout)
    special = bert.special_tokens(Tokenizer.from_file(str(tokenizer_file())))
    side = np.array([stable_key(user) & 1 for user in frame.lists.user_ids])
    items = frame.assembled.items
    corpus = bm25.Corpus.of(items.token_ids[np.unique(items.text_digests, return_index=True)[1]])

    def scored(lists: EvalLists, which: int) -> EvalLists:
        chosen = np.flatnonzero(side == which)[: len(lists)]
        rows = np.concatenate([np.arange(frame.lists.offsets[i], frame.lists.offsets[i + 1]) for i in chosen])
        first = tuple(frame.first_tokens[i] for i in chosen)
        texts = first, lists.offsets, frame.assembled.token_ids[rows], frame.assembled.text_digests[rows]
        given = {"bert": bert.score(files.model, *texts, special, threads=1), "bm25": bm25.score(corpus, *texts)}
        return replace(lists, given={**lists.given, **given})

    return EnsembleData(data.train, scored(data.calibrate, 0), scored(data.select, 1))


def _ran(layout: Layout, name: str, steps: Any, shared: Any, data: EnsembleData, trials: int, rounds: int, seed: int) -> Ran:
    """Run the first `trials` configurations; without `steps` as the ensemble stage does."""
    from training.search import tuning

    path = layout.search / f"bench-{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    space = SEARCHED.space(data.train.negatives_rate, rounds)
    order = Order(sampler("random", space, ENSEMBLE, seed), trials, trials, {})
    steps = steps or Trial(Fits(path / FOLDER, digest(data)))
    with tuning.connected(None):
        start = time.perf_counter()
        rows = tuning.run(steps, shared, order, Journal(path), seed=seed, what=f"bench {name}")
        spent = time.perf_counter() - start
    failed = next((row["error"] for row in rows if row["error"]), "")
    if failed:
        raise RuntimeError(f"{name}: a trial failed: {failed}")
    shutil.rmtree(path)
    return Ran(rows, spent)


def _revision() -> str:
    from training.release.publish import code_revision  # with torch, which the trials that keep nothing do not all need

    return code_revision(ROOT)


def _some(data: EnsembleData, most: int) -> EnsembleData:
    calibrate, select = (lists.lists(np.arange(min(most, len(lists)))) for lists in (data.calibrate, data.select))
    return EnsembleData(data.train, calibrate, select)
