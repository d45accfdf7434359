"""A finished search as a release takes it: its trials, and the rankers their ensembles name, with the scores and models these left.

Knows how a search lies on disk, not how it ran.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.artefacts import digest
from training.blends.ensemble import member_names
from training.lists.arrays import EnsembleData, EvalLists
from training.members.registry import RANKER, VECTORS
from training.search.claim import ASKED
from training.search.ensemble import RESULT
from training.search.journal import Row
from training.search.kept import MANIFEST, Kept, read, with_member_scores, with_members

if TYPE_CHECKING:
    from training.search.bagged import Bagged


@dataclass(frozen=True, slots=True)
class Found:
    """What a search of ensembles found.

    Attributes:
        name: of the search.
        best_trial: by the search's own rule.
        trials: best first.
        rankers: trial of the stage before -> folder of what it kept, for those that ensembles could have as members.
    """

    name: str
    best_trial: str
    trials: Sequence[Row]
    rankers: Mapping[str, Path]

    def kept(self) -> dict[str, Kept]:
        """What the rankers kept, checked."""
        return {trial: read(folder) for trial, folder in self.rankers.items()}

    def data(self, data: EnsembleData) -> EnsembleData:
        """A surface's rows and lists with the rankers' scores."""
        return with_members(data, self.kept())

    def lists(self, lists: EvalLists, part: str) -> EvalLists:
        """Other lists with the rankers' scores of them.

        Raises:
            ValueError: a ranker has none, or scored other lists.
        """
        return with_member_scores(lists, part, self.kept())

    def to_json(self) -> dict[str, Any]:
        rankers = {trial: str(folder) for trial, folder in self.rankers.items()}
        return {"name": self.name, "best_trial": self.best_trial, "trials": list(self.trials), "rankers": rankers}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Found:
        """From what `to_json` gave, or from the result of a search without rankers."""
        rankers = {trial: Path(folder) for trial, folder in value.get("rankers", {}).items()}
        return cls(value["name"], value["best_trial"], value["trials"], rankers)


def at(path: Path) -> Found:
    """A finished search in its folder: one of ensembles alone, or of a file whose stages lie below it.

    Raises:
        FileNotFoundError: none, or one that has not finished.
    """
    path = path.resolve()
    home = _home(path)
    value = json.loads((home / RESULT).read_text())
    asked = json.loads((home / ASKED).read_text())  # of its choices, not its trials: all rankers' scores were in the data it was asked of
    named = {name for one in asked["members"] for name in member_names({"members": one}) if name.startswith((RANKER, VECTORS))}
    trials = sorted({name.removeprefix(RANKER).removeprefix(VECTORS) for name in named})
    rankers = {trial: path / "rankers" / "work" / trial for trial in trials}
    return Found(path.name, value["best_trial"], value["trials"], rankers)


def identity(path: Path) -> dict[str, str]:
    """What tells one finished search from another: digests of its result and of every ranker's manifest."""
    found = at(path)
    files = {"result": _home(path.resolve()) / RESULT, **{trial: folder / MANIFEST for trial, folder in found.rankers.items()}}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def check_data(path: Path, found: Found, data: EnsembleData) -> None:
    """Refuse a search of other data than a release is made of.

    Raises:
        ValueError: naming both digests.
    """
    asked = json.loads((_home(path.resolve()) / ASKED).read_text())["data"]
    given = digest(found.data(data))
    if asked != given:
        raise ValueError(f"search: {path} searched the data {asked}, a release is made of {given} here; search the files that lie here")


def model_of(folder: Path, make: Callable[[], Any], sep: int) -> Bagged:
    """A ranker's model, from what its trial kept.

    Args:
        folder: of the trial.
        make: an untrained encoder.
        sep: the tokenizer's [SEP].

    Raises:
        ValueError: it is damaged, or a search of before models were kept.
    """
    from training.search import bagged, fine_tune
    from training.search.kept import file_of

    manifest = read(folder).manifest
    parts = [file_of(folder, manifest, bagged.FILES.format(fold)) for fold in range(manifest["folds"])]
    return bagged.unpacked(parts, lambda: fine_tune.untrained(make(), manifest["config"]), manifest["config"], sep)


def _home(path: Path) -> Path:
    for home in (path / "ensemble", path):
        if (home / RESULT).is_file():
            return home
    raise FileNotFoundError(f"{path}: holds no finished search of ensembles (no {RESULT})")
