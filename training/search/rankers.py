"""The rankers stage: BERT fine-tunes, the worse ones given up rung by rung, each whole one leaving scores for ensembles.

What a trial computes is `training.search.fine_tune.Rankers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ranking.errors import UnknownName
from ranking.text import SpecialTokens
from training.artefacts import write_json
from training.bert import encoder
from training.bert.masked import ADAPTATIONS
from training.bert.tuning import METHODS
from training.search import logs
from training.search.choose import SearchResult, front, ranked
from training.search.claim import check_name, claimed
from training.search.fine_tune import LOSSES, METRIC, Rankers
from training.search.journal import Journal
from training.search.kept import Kept, read
from training.search.order import Order
from training.search.samplers import SEARCHERS, Objectives, sampler
from training.search.space import Choice, Space, Uniform, combinations
from training.search.texts import TextData, digest_of

RESULT = "result.json"
BETTER = Objectives({METRIC: 1.0}, {METRIC: 1})


@dataclass(frozen=True, slots=True)
class Tunings:
    """What the stage may choose among.

    Attributes:
        learning_rate: lowest and highest, of full tuning; drawn on the log scale.
        epochs: rungs of every trial: how many a trial gets is what halving decides.
        losses: `bce`, `focal`, `list`.
        negatives_rates: shares of the negatives that are kept.
        lengths: tokens of an item's text.
        methods: of `training.bert.tuning.METHODS`.
        ranks: of low-rank additions, or the adapters' width.
        adaptations: of `training.bert.masked.ADAPTATIONS`, what the encoder does before it reads labels.
    """

    learning_rate: tuple[float, float] = (2e-5, 3e-4)
    epochs: int = 3
    losses: tuple[str, ...] = ("bce", "list")
    negatives_rates: tuple[float, ...] = (0.5, 1.0)
    lengths: tuple[int, ...] = (32, 64)
    methods: tuple[str, ...] = ("full", "lora")
    ranks: tuple[int, ...] = (4, 8)
    adaptations: tuple[str, ...] = ("none",)

    def __post_init__(self) -> None:
        for key, known in (("losses", LOSSES), ("methods", METHODS), ("adaptations", ADAPTATIONS)):
            for name in getattr(self, key):
                if name not in known:
                    raise UnknownName(key, name, list(known))
        if self.epochs < 1:
            raise ValueError(f"epochs: must be at least 1, got {self.epochs}")
        self.space()

    def space(self, *, grid: bool = False) -> Space:
        """The search space; a grid takes the lowest learning rate and the highest."""
        low, high = self.learning_rate
        return {
            "learning_rate": Choice(tuple(dict.fromkeys((low, high)))) if grid else Uniform(low, high, log=True),
            "epochs": self.epochs,
            "loss": Choice(self.losses),
            "negatives_rate": Choice(self.negatives_rates),
            "length": Choice(self.lengths),
            "method": Choice(self.methods),
            "rank": Choice(self.ranks),
            "adaptation": Choice(self.adaptations),
        }


def run(
    data: TextData,
    *,
    name: str,
    storage: Path,
    trials: int,
    seed: int,
    searcher: str = "random",
    tunings: Tunings | None = None,
    folds: int = 2,
    factor: float = 3.0,
    grace: int = 1,
    gpu: float = 0.25,
    cpus: int | None = None,
    at_once: int = 4,
    made: tuple[Callable[[], Any], SpecialTokens] | None = None,
) -> SearchResult:
    """Search, or go on with an interrupted search of the same name, which must have asked the same.

    Which trials are given up depends on which reports the scheduler had when, so two runs may give up different ones; the configurations
    are the same, and a trial that is not given up ends alike.

    Args:
        data: texts of lists; put once where all trials read them.
        name: of the search, unique in `storage`.
        storage: folder that all machines of the search see.
        trials: configurations; for a grid the most there may be.
        seed: of the searcher and of every trial.
        searcher: as in the ensemble stage.
        tunings: what to choose among.
        folds: of askers, whole: each is scored by a model that has not seen it.
        factor: of the trials that reach an epoch about one in so many goes on.
        grace: epochs that every trial gets.
        gpu: share of a GPU per trial, where the cluster has one.
        cpus: CPUs for trials, one each; default: the host's.
        at_once: trials a searcher that learns may have under way.
        made: the encoder and its framing ids; default: the pretrained MiniLM.

    Raises:
        RuntimeError: every trial failed, the search was stopped, or another driver is at it.
        ValueError: as for the ensemble stage.
    """
    from training.search import tuning  # Ray

    tunings = tunings or Tunings()
    check_name(name)
    if searcher not in SEARCHERS:
        raise ValueError(f"searcher: {searcher!r} is not known; known: {', '.join(SEARCHERS)}")
    for key, value, least in (("trials", trials, 1), ("at_once", at_once, 1), ("folds", folds, 2)):
        if value < least:
            raise ValueError(f"{key}: must be at least {least}, got {value}")
    if not 0.0 <= gpu <= 1.0:
        raise ValueError(f"gpu: must be a share from 0 to 1, got {gpu:g}")
    halving = tuning.Halving(METRIC, tunings.epochs, factor, min(grace, tunings.epochs))
    grid = searcher == "grid"
    space = tunings.space(grid=grid)
    if grid and combinations(space) > trials:
        raise ValueError(f"trials: the grid has {combinations(space)} combinations, more than {trials}; name fewer or allow more trials")
    count = combinations(space) if grid else trials
    make, special = made or pretrained()
    asked = {"stage": "rankers", "searcher": searcher, "trials": count, "seed": seed, "at_once": at_once, "folds": folds}
    asked |= {"factor": factor, "grace": grace, "data": digest_of(data), **asdict(tunings)}
    with claimed(storage / name, asked) as journal:
        finished = {row["number"]: None if row["error"] else row["metrics"] for row in journal.rows()}
        order = Order(sampler(searcher, space, BETTER, seed), count, at_once, finished)
        steps = Rankers(make, special, folds)
        told = partial(logs.board, journal)
        rows = tuning.run(steps, data, order, journal, seed=seed, what=name, cpus=cpus, gpus_per_trial=gpu, halving=halving, told=told)
        if len(rows) < count:
            raise RuntimeError(f"{name}: stopped after {len(rows)} of {count} trials; the same command goes on")
        whole = [row for row in rows if METRIC in row["metrics"] and not row["stopped"]]
        if not whole:
            first = next((row["error"] for row in rows if row["error"]), "all were given up")
            raise RuntimeError(f"{name}: no trial came to its end, the first with: {first}")
        best = ranked(whole, BETTER)[0]
        result = SearchResult(name, best["config"], best["trial"], ranked(rows, BETTER), front(whole, BETTER))
        write_json(journal.path / RESULT, result.to_json())
        logs.wandb(journal, name)
    return result


def best(path: Path, count: int) -> dict[str, Kept]:
    """Trial -> artefact of the `count` best whole trials of a finished search, read from what it kept.

    Raises:
        FileNotFoundError: the search has not finished.
    """
    if not (path / RESULT).is_file():
        raise FileNotFoundError(f"{path}: holds no finished search of rankers")
    rows = [row for row in json.loads((path / RESULT).read_text())["trials"] if METRIC in row["metrics"] and not row["stopped"]]
    return {row["trial"]: read(Journal(path).work(row["number"])) for row in rows[:count]}


def pretrained() -> tuple[Callable[[], Any], SpecialTokens]:
    """The house's encoder."""
    from tokenizers import Tokenizer

    from training.tables.tokens import tokenizer_file

    return encoder.load, encoder.special_tokens(Tokenizer.from_file(str(tokenizer_file())))
