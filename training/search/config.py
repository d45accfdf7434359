"""A search as a file: TOML with the keys below, every one checked, an unknown one refused by name. Knows no Ray.

``name`` and ``storage`` stand at the top, then ``[rankers]`` and ``[ensemble]``, one of them at least. Relative paths are the file's
folder's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from training.search.choices import Choices
from training.search.claim import check_name

_ENSEMBLES = Choices()


@dataclass(frozen=True, slots=True)
class RankersStage:
    """``[rankers]``: BERT fine-tunes. Keys as in `rankers.run` and `rankers.Tunings`."""

    data: Path
    trials: int = 8
    seed: int = 0
    searcher: str = "random"
    folds: int = 2
    factor: float = 3.0
    grace: int = 1
    gpu: float = 0.25
    at_once: int = 4
    learning_rate: tuple[float, ...] = (2e-5, 3e-4)
    epochs: int = 3
    losses: tuple[str, ...] = ("bce", "list")
    negatives_rates: tuple[float, ...] = (0.5, 1.0)
    lengths: tuple[int, ...] = (32, 64)
    methods: tuple[str, ...] = ("full", "lora")
    ranks: tuple[int, ...] = (4, 8)
    adaptations: tuple[str, ...] = ("none",)


@dataclass(frozen=True, slots=True)
class EnsembleStage:
    """``[ensemble]``. Keys as in `ensemble.run` and `choices.Choices`; ``rankers``: so many of the best rankers of this file's first stage
    are members beside those named, each ensemble also with each of them in place of ``bert``. In ``members`` the word ``vectors`` stands
    for the cosines of their encoders' vectors, which no release carries: for a search that compares.
    """

    data: Path
    trials: int = 40
    rounds: int = 200
    seed: int = 0
    searcher: str = "bayesian"
    at_once: int = 4
    rankers: int = 0
    compare: bool = False
    objective_weights: Mapping[str, float] = field(default_factory=lambda: {"ndcg10": 1.0})
    members: tuple[str, ...] = _ENSEMBLES.members
    blends: tuple[str, ...] = _ENSEMBLES.blends
    resamplers: tuple[str, ...] = _ENSEMBLES.resamplers
    calibrators: tuple[str, ...] = _ENSEMBLES.calibrators
    losses: tuple[str, ...] = _ENSEMBLES.losses
    optimisers: tuple[str, ...] = _ENSEMBLES.optimisers
    floors: tuple[float, ...] = _ENSEMBLES.floors


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    name: str
    storage: Path
    rankers: RankersStage | None = None
    ensemble: EnsembleStage | None = None


def load(path: Path) -> Config:
    """Read and check a file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is no TOML, a key is unknown, missing or of another kind, or it has no stage; the key is named.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        read = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    try:
        config = parse(read, path.resolve().parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return config


def parse(read: Mapping[str, Any], base: Path) -> Config:
    """The same from a table; relative paths are below `base`."""
    stages = {"rankers": RankersStage, "ensemble": EnsembleStage}
    plain = {key: value for key, value in read.items() if key not in stages}
    found = {key: _filled(kind, read[key], f"{key}.", base) for key, kind in stages.items() if key in read}
    known = {"name": str, "storage": Path}
    for key in plain:
        if key not in known:
            raise ValueError(f"{key}: unknown key; known: {', '.join((*known, *stages))}")
    for key in known:
        if key not in plain:
            raise ValueError(f"{key}: missing; it is what an interrupted search is found again by")
    if not found:
        raise ValueError("rankers, ensemble: need at least one stage")
    config = Config(_value(str, plain["name"], "name", base), _value(Path, plain["storage"], "storage", base), **found)
    check_name(config.name)
    if config.ensemble and config.ensemble.rankers and not config.rankers:
        raise ValueError("ensemble.rankers: there is no stage [rankers] to take members from")
    return config


def _filled(kind: Any, table: Any, where: str, base: Path) -> Any:
    if not isinstance(table, dict):
        raise ValueError(f"{where[:-1]}: must be a table, got {table!r}")
    hints, names = get_type_hints(kind), [f.name for f in fields(kind)]
    for key in table:
        if key not in names:
            raise ValueError(f"{where}{key}: unknown key; known: {', '.join(names)}")
    if "data" not in table:
        raise ValueError(f"{where}data: missing")
    return kind(**{key: _value(hints[key], value, where + key, base) for key, value in table.items()})


def _value(kind: Any, value: Any, where: str, base: Path) -> Any:
    """The value as its kind; a whole number is a number too, a truth value is neither."""
    if kind is Path and isinstance(value, str) and value:
        return base / value
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(get_args(kind)[0], one, where, base) for one in value)
    if get_origin(kind) is Mapping and isinstance(value, dict):
        return {key: _value(float, one, f"{where}.{key}", base) for key, one in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (bool, int, str) and type(value) is kind:
        return value
    names = {Path: "a path", bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    wanted = f"a list, each {names[get_args(kind)[0]]}" if get_origin(kind) is tuple else names.get(kind, "a table of numbers")
    raise ValueError(f"{where}: must be {wanted}, got {value!r}")
