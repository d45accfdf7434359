"""The stages of a search file, one after the other: rankers, then ensembles of what they left. Knows files, not how a stage runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from training.artefacts import load_ensemble_data
from training.members.registry import RANKER, VECTORS
from training.search.choices import Choices
from training.search.choose import SearchResult
from training.search.claim import ASKED
from training.search.config import Config, EnsembleStage, RankersStage

TEXT, VECTOR = "bert", "vectors"
STAGES = ("rankers", "ensemble")


def run(config: Config, *, made: Any = None) -> dict[str, SearchResult]:
    """Run the stages that are there; each is a search of its own below the file's name, and found again by it.

    Args:
        config: the file.
        made: encoder of the rankers and its framing ids; default: the pretrained one.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: as the stages say.
    """
    home = config.storage.resolve() / config.name
    if (home / ASKED).exists():
        raise ValueError(f"name: {home} is a search of one stage; choose another name")
    found = {}
    if config.rankers:
        found["rankers"] = _rankers(config.rankers, home, made)
    if config.ensemble:
        found["ensemble"] = _ensemble(config.ensemble, home)
    return found


def _rankers(stage: RankersStage, home: Path, made: Any) -> SearchResult:
    from training.search import rankers, texts

    low, high = stage.learning_rate if len(stage.learning_rate) == 2 else (0.0, 0.0)
    if not 0.0 < low <= high:
        raise ValueError(f"rankers.learning_rate: need the lowest and the highest, both above 0, got {list(stage.learning_rate)}")
    chosen = {f.name: getattr(stage, f.name) for f in fields(rankers.Tunings)} | {"learning_rate": (low, high)}
    settings = {name: getattr(stage, name) for name in ("trials", "seed", "searcher", "folds", "factor", "grace", "gpu", "at_once")}
    data = texts.load_texts(stage.data)
    return rankers.run(data, name="rankers", storage=home, tunings=rankers.Tunings(**chosen), made=made, **settings)


def _ensemble(stage: EnsembleStage, home: Path) -> SearchResult:
    from training.search import ensemble

    data, members = load_ensemble_data(stage.data), stage.members
    if not stage.rankers and any(VECTOR in one.split("+") for one in members):
        raise ValueError(f"ensemble.members: {VECTOR} are a found ranker's; say how many of these take part (rankers)")
    if stage.rankers:
        from training.search import kept, rankers

        best = rankers.best(home / "rankers", stage.rankers)
        data = kept.with_members(data, best)
        members = with_rankers(members, tuple(best))
    choices = replace(Choices(), **{f.name: getattr(stage, f.name) for f in fields(Choices)} | {"members": members})
    settings = {name: getattr(stage, name) for name in ("trials", "rounds", "seed", "searcher", "at_once", "objective_weights", "compare")}
    return ensemble.run(data, name="ensemble", storage=home, choices=choices, **settings)


def with_rankers(members: Sequence[str], trials: Sequence[str]) -> tuple[str, ...]:
    """The ensembles named, and each with each found ranker; where one names `vectors` these are the ranker's, and `bert` may stay."""
    out = [one for one in members if VECTOR not in one.split("+")]
    for one in members:
        names = one.split("+")
        for trial in trials:
            if VECTOR in names:
                with_vectors = "+".join(VECTORS + trial if name == VECTOR else name for name in names)
                out += [with_vectors, with_ranker(with_vectors, trial)] if TEXT in names else [with_vectors]
            else:
                out.append(with_ranker(one, trial))
    return tuple(dict.fromkeys(out))


def with_ranker(members: str, trial: str) -> str:
    """An ensemble with a found ranker in place of the text member, or beside the others where it has none."""
    names = members.split("+")
    found = RANKER + trial
    return "+".join(found if name == TEXT else name for name in names) if TEXT in names else "+".join([*names, found])
