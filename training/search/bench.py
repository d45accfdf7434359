"""`longtail bench search`: ensemble trials per minute on kept scores, against the same trials when each reads and encodes its texts itself.

Both run on the same Ray with the same resources and the same configurations; only where the text members' scores come from differs.
"""

from __future__ import annotations

import pickle
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ranking.features import stable_key
from ranking.layout import Layout
from ranking.types import Surface
from training.artefacts import load_ensemble_data
from training.blends.ensemble import EnsembleData, EvalLists
from training.host import host
from training.release.publish import code_revision
from training.search.choices import Choices
from training.search.choose import ENSEMBLE
from training.search.ensemble import once
from training.search.journal import Journal
from training.search.order import Order
from training.search.samplers import sampler
from training.stage import ROOT
from training.toolbox.bench import Mark, meets

WANTED: Mapping[str, Mark] = {"trials_ratio": (">=", 20.0)}
SEARCHED = Choices(members=("boosting+bert", "logistic+bert+bm25"), resamplers=("none", "random_under"), calibrators=("platt",))


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
    kept, without = (4, 1) if quick else (24, 2)
    figures = {
        "trials_per_minute": _per_minute(layout, "kept", once, data, data, kept, rounds, seed),
        "trials_per_minute_without": _per_minute(layout, "without", encoding, files, data, without, rounds, seed),
    }
    figures["trials_ratio"] = figures["trials_per_minute"] / figures["trials_per_minute_without"]
    figures["rows"] = float(len(data.train.labels))
    figures["lists"] = float(len(data.calibrate) + len(data.select))
    return {
        "bench": "search",
        "revision": code_revision(ROOT),
        "host": host(),
        "quick": quick,
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "wanted": {name: list(mark) for name, mark in WANTED.items()},
        "met": {name: meets(figures[name], mark) for name, mark in WANTED.items()},
    }


def encoding(config: Mapping[str, Any], files: Files, seed: int, folder: Path, seen: int) -> Iterator[tuple[dict[str, float], bool]]:
    """The same trial where nothing is kept: the files are read, and every text of the lists is encoded."""
    yield from once(config, with_scores(files), seed, folder, seen)


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


def _per_minute(layout: Layout, name: str, steps: Any, shared: Any, data: EnsembleData, trials: int, rounds: int, seed: int) -> float:
    from training.search import tuning

    path = layout.search / f"bench-{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    space = SEARCHED.space(data.train.negatives_rate, rounds)
    order = Order(sampler("random", space, ENSEMBLE, seed), trials, trials, {})
    with tuning.connected(None):
        start = time.perf_counter()
        rows = tuning.run(steps, shared, order, Journal(path), seed=seed, what=f"bench {name}")
        spent = time.perf_counter() - start
    failed = next((row["error"] for row in rows if row["error"]), "")
    if failed:
        raise RuntimeError(f"{name}: a trial failed: {failed}")
    shutil.rmtree(path)
    return 60.0 * trials / spent


def _some(data: EnsembleData, most: int) -> EnsembleData:
    calibrate, select = (lists.lists(np.arange(min(most, len(lists)))) for lists in (data.calibrate, data.select))
    return EnsembleData(data.train, calibrate, select)
