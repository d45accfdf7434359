"""The ensemble stage: members, resampling, losses, blends and calibrators, on arrays that are kept. What a trial computes is
`training.blends.ensemble.objective`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from training.artefacts import digest, write_json
from training.blends.ensemble import DEFAULT, TREES_ALONE
from training.lists.arrays import EnsembleData
from training.search import fits, logs
from training.search.choices import Choices
from training.search.choose import ENSEMBLE, SearchResult, choose
from training.search.claim import check_name, claimed
from training.search.order import Order
from training.search.samplers import SEARCHERS, Objectives, sampler
from training.search.space import combinations, within

RESULT = "result.json"
AT_ONCE = 4


def run(
    data: EnsembleData,
    *,
    name: str,
    storage: Path,
    trials: int,
    rounds: int,
    seed: int,
    searcher: str = "bayesian",
    choices: Choices | None = None,
    cpus: int | None = None,
    at_once: int = AT_ONCE,
    objective_weights: Mapping[str, float] | None = None,
    compare: bool = False,
    first: Sequence[Mapping[str, Any]] = (DEFAULT, TREES_ALONE),
) -> SearchResult:
    """Search, or go on with an interrupted search of the same name, which must have asked the same.

    However often it is interrupted, and whichever trials end first, the search tries the same configurations: those that follow from the
    seed, from `at_once` and from the trials' own results.

    Args:
        data: the surface's rows and lists; put once where all trials read them.
        name: of the search, unique in `storage`; an unfinished one is gone on with, a finished one is only read.
        storage: folder that all machines of the search see.
        trials: number of configurations, those of `first` included; for a grid the most there may be.
        rounds: boosting rounds per trial.
        seed: of the searcher and of every trial.
        searcher: `bayesian` (Optuna's TPE on the weighted sum), `pareto` (the same on NDCG@10, tail exposure and NE at once), `random`, or
            `grid`: every combination of the names, once.
        choices: what to choose among; default: what takes seconds a trial.
        cpus: CPUs for trials, one each; default: the host's. An address in RAY_ADDRESS is used as it is.
        at_once: trials a searcher that learns may have under way; part of the question, so that it is answered alike on any machine.
        objective_weights: metric -> weight of what `bayesian` maximises and the winner is chosen by; default: NDCG@10 alone.
        compare: the winner is to be read about and not to be released, so that members no release can carry may be chosen too.
        first: configurations of the first trials, so that the winner is at least as good as what needs no search; those outside the
            choices are left out.

    Raises:
        RuntimeError: every trial failed, the search was stopped, or another driver is at it (`claim.Taken`).
        ValueError: a member that no release can carry, fewer than one trial or round, a name that is no folder's, an unknown searcher, a
            grid of more combinations than `trials`, or a name that stands for another search.
    """
    from training.search import tuning  # Ray

    choices = choices or Choices()
    if not compare:
        choices.check_servable()
    objectives = ENSEMBLE if objective_weights is None else Objectives(dict(objective_weights), ENSEMBLE.front)
    if searcher not in SEARCHERS:
        raise ValueError(f"searcher: {searcher!r} is not known; known: {', '.join(SEARCHERS)}")
    for key, value in (("trials", trials), ("rounds", rounds), ("at_once", at_once)):
        if value < 1:
            raise ValueError(f"{key}: must be at least 1, got {value}")
    check_name(name)
    grid = searcher == "grid"
    space = (choices.grid if grid else choices.space)(data.train.negatives_rate, rounds)
    if grid and combinations(space) > trials:
        raise ValueError(f"trials: the grid has {combinations(space)} combinations, more than {trials}; name fewer or allow more trials")
    count = combinations(space) if grid else trials
    points = [within({**config, "rounds": rounds, "negatives_rate": data.train.negatives_rate}, space) for config in first]
    asked = {"stage": "ensemble", "searcher": searcher, "trials": count, "rounds": rounds, "seed": seed, "at_once": at_once}
    of_data = digest(data)
    asked |= {"objective_weights": dict(objectives.weights), "first": points, "data": of_data, **asdict(choices)}
    with claimed(storage / name, asked) as journal:
        finished = {row["number"]: None if row["error"] else row["metrics"] for row in journal.rows()}
        order = Order(sampler(searcher, space, objectives, seed, [p for p in points if p]), count, at_once, finished)
        kept = journal.path / fits.FOLDER
        steps = fits.Trial(fits.Fits(kept, of_data))
        rows = tuning.run(steps, data, order, journal, seed=seed, what=name, cpus=cpus, told=partial(logs.board, journal))
        if len(rows) < count:
            raise RuntimeError(f"{name}: stopped after {len(rows)} of {count} trials; the same command goes on")
        result = choose(name, rows, objectives)
        write_json(journal.path / RESULT, result.to_json())
        shutil.rmtree(kept, ignore_errors=True)
        logs.wandb(journal, name)
    return result
