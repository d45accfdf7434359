"""From prepared judgments to a trained ranker in the state directory, with what it reaches on queries it did not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranking.layout import Layout
from training import sources
from training.relevance import catalogue, crossval, ensemble, judged, late, measure
from training.relevance.encoder import MiniLM, Reader
from training.relevance.features import Matrix, matrix
from training.relevance.judged import Lists
from training.relevance.rankers import TRAINED, Trained
from training.relevance.searchable import Searchable, negated
from training.seen import keys
from training.stage import Staged, source_files, stage

SOURCE = "esci"
SETTINGS: dict[str, Any] = {
    "folds": crossval.FOLDS,
    "seeds": list(ensemble.SEEDS),
    "learners": list(ensemble.CHOSEN),
    "encoder": "all-MiniLM-L6-v2",
}


def folder(layout: Layout) -> Path:
    """Where the trained ranker lies."""
    return layout.rankers / SOURCE


def reader(layout: Layout) -> Reader:
    """The pretrained encoder; what it read is kept in the state directory."""
    return MiniLM(layout.rankers / "read")


def tables(layout: Layout, path: Path | None = None) -> Path:
    """The prepared tables, prepared now where a path is given.

    Raises:
        FileNotFoundError: there are none and no path was given.
    """
    if path is not None:
        return sources.prepare(layout, SOURCE, path).path
    prepared = layout.canonical(SOURCE)
    if not (prepared / "meta.json").exists():
        raise FileNotFoundError(f"{prepared}: not prepared; `longtail data prepare {SOURCE} --path FOLDER` makes it, or say --path FOLDER")
    return prepared


def load(layout: Layout, encoder: Reader, path: Path | None = None) -> tuple[Searchable, Lists]:
    """The prepared catalogue and its judged lists."""
    prepared = tables(layout, path)
    products = catalogue.prepared(prepared)
    return Searchable(products, encoder), judged.prepared(prepared, products)


def train(layout: Layout, *, path: Path | None = None, encoder: Reader | None = None, anew: bool = False) -> Staged:
    """Train and keep the rankers, unless these data and this program made them already.

    Args:
        layout: the state directory.
        path: folder of the source's files; None: what `longtail data prepare` made.
        encoder: what reads texts; None: the pretrained encoder.
        anew: train in any case.

    Raises:
        FileNotFoundError: nothing is prepared and no path was given, or a file is not there.
        ValueError: files that are not what they should be, or too few queries.
    """
    prepared = tables(layout, path)
    inputs = {"tables": (prepared / "stage.json").read_text("utf-8"), "settings": SETTINGS}

    def build(out: Path) -> None:
        searchable, lists = load(layout, encoder or reader(layout))
        features = matrix(lists, searchable)
        metrics = validated(lists, features, searchable)
        fitted = ensemble.fit(features.values, lists.gains, lists.offsets)
        Trained(features.names, fitted, late.fit(features, lists), metrics, keys(lists.queries)).save(out, settings=SETTINGS)

    return stage(folder(layout), inputs, build, code=source_files("training/relevance"), anew=anew)


def validated(lists: Lists, features: Matrix, searchable: Searchable) -> dict[str, Any]:
    """Figures of the trained rankers, out of fold by query."""
    scores = crossval.out_of_fold(lists, crossval.rankers(lists, features), what="rankers on queries apart")
    apart = negated(lists)
    return {name: measure.figures(scores[name], lists, searchable.catalogue, apart) for name in TRAINED}
