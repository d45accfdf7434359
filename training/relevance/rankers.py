"""Rankers by name: plain ones that nothing is learnt for, and those that `longtail train-ranker` makes and keeps.

A trained ranker is a directory of plain files: `ranker.json` (settings, feature names, cross-validated metrics, digests of the files) and
one text per learner. Reading it runs no code of its own, and gives the scores it gave when it was made, to the bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ranking.errors import UnknownName
from ranking.types import FloatArray
from training.artefacts import write_json
from training.relevance import semantic
from training.relevance.ensemble import Ensemble
from training.relevance.features import Matrix
from training.relevance.judged import Lists
from training.relevance.late import Late
from training.relevance.searchable import Searchable, asked, by_list
from training.seen import Keys

MANIFEST = "ranker.json"
_MEMBERS = "members"
HOW = "`longtail data prepare esci --path FOLDER`, then `longtail train-ranker --source esci`, makes it"


def rating_count(lists: Lists, searchable: Searchable) -> FloatArray:
    """Popularity: how often a product was rated."""
    return searchable.catalogue.rating_count[lists.items].astype(np.float64)


def bm25(lists: Lists, searchable: Searchable) -> FloatArray:
    """BM25 of title, brand and category, for the words that are wanted."""
    head = searchable.lexicon.head
    return by_list(lists, [head.bm25(query.wanted, lists.items[lists.span(i)]) for i, query in enumerate(asked(lists))])


def cosine(lists: Lists, searchable: Searchable) -> FloatArray:
    """The pretrained encoder's cosine of the query as typed and the title."""
    return semantic.features(lists, searchable)["cosine_typed"]


def maxsim(lists: Lists, searchable: Searchable) -> FloatArray:
    """The pretrained encoder's token-level MaxSim with the title, the part that is not wanted cut from the query."""
    return semantic.features(lists, searchable)["maxsim"]


PLAIN: Mapping[str, Callable[[Lists, Searchable], FloatArray]] = {
    "bm25": bm25,
    "cosine": cosine,
    "maxsim": maxsim,
    "rating_count": rating_count,
}
"""Rankers that nothing is learnt for."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What training makes.

    Attributes:
        features: names of the columns, in order.
        ensemble: learners over all features.
        late: the BERT ranker alone.
        metrics: cross-validated by query, see `training.relevance.crossval`.
        queries: keys of the queries it learnt from, see `training.seen`.
    """

    features: tuple[str, ...]
    ensemble: Ensemble
    late: Late
    metrics: Mapping[str, Any]
    queries: Keys

    def scores(self, name: str, lists: Lists, features: Matrix) -> FloatArray:
        """(N,) by one of `TRAINED`.

        Raises:
            ValueError: other features than it was trained on.
        """
        if features.names != self.features:
            raise ValueError(
                f"features: trained on {len(self.features)}, of this program are {len(features.names)}; train the ranker again"
            )
        return self.late.scores(features) if name == "late" else self.ensemble.scores(features.values, lists.offsets)

    def save(self, folder: Path, *, settings: Mapping[str, Any]) -> None:
        """Write it into a directory."""
        self.ensemble.save(folder / _MEMBERS)
        write_json(
            folder / MANIFEST,
            {
                "features": list(self.features),
                "members": {name: len(seeds) for name, seeds in self.ensemble.members.items()},
                "late": asdict(self.late),
                "settings": dict(settings),
                "queries": self.queries.tolist(),
                "metrics": dict(self.metrics),
                "sha256": {path.name: _sha256(path) for path in sorted((folder / _MEMBERS).iterdir())},
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Trained:
        """Read it again.

        Raises:
            FileNotFoundError: nobody trained it yet; says how.
            ValueError: a file is damaged, or not the one that was written.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no trained ranker; {HOW}")
        try:
            said = json.loads(path.read_text("utf-8"))
            for name, wanted in said["sha256"].items():
                if _sha256(folder / _MEMBERS / name) != wanted:
                    raise ValueError(f"{name}: is not the file that was written")
            ensemble = Ensemble.load(folder / _MEMBERS, said["members"])
            queries = np.array(said["queries"], np.int64)
            return cls(tuple(said["features"]), ensemble, Late(**said["late"]), said["metrics"], queries)
        except (KeyError, TypeError, ValueError, OSError) as wrong:
            raise ValueError(f"{folder}: damaged ({wrong}); train the ranker again") from wrong


TRAINED = ("ensemble", "late")
"""Rankers of a `Trained`: all learners over all features, and the BERT ranker alone."""
NAMES = (*PLAIN, *TRAINED)


def check(name: str) -> None:
    """Refuse a ranker nobody knows.

    Raises:
        UnknownName: naming those there are.
    """
    if name not in NAMES:
        raise UnknownName("ranker", name, list(NAMES))


def digest(folder: Path) -> str:
    """What tells one trained ranker from another: 16 hex digits of its manifest."""
    return _sha256(folder / MANIFEST)[:16]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
