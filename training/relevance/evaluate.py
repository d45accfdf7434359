"""A ranker by name on a file of judgments that it was not trained on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from ranking.layout import Layout
from ranking.types import FloatArray, IntArray
from training.relevance import catalogue, judged, measure, train
from training.relevance.catalogue import Catalogue
from training.relevance.encoder import Reader
from training.relevance.features import matrix
from training.relevance.judged import Lists
from training.relevance.rankers import MANIFEST, PLAIN, Trained, check, digest
from training.relevance.searchable import Searchable, negated
from training.seen import among


def judge(
    layout: Layout, *, judgments: Path, products: Path | None = None, ranker: str = "ensemble", encoder: Reader | None = None
) -> dict[str, Any]:
    """Figures of one ranker, ready for JSON.

    A ranker that has to be trained and is not yet is trained now from the prepared tables, which takes some minutes and is said.

    Args:
        layout: the state directory.
        judgments: CSV with the columns `query`, `asin`, `esci_label`, `gain`.
        products: a file like `products.jsonl.gz`; None: those that were prepared.
        ranker: one of `training.relevance.rankers.NAMES`.
        encoder: what reads texts; None: the pretrained encoder.

    Returns:
        `ndcg10`, `ndcg` and their intervals, queries with a negation apart, exposure by tier, and counts: judged products that the
        catalogue does not know are left out of their lists, and counted in `unknown_products`. For a trained ranker also `seen_queries`,
        how many of the queries it learnt from, and `unseen`: the figures on all others, None where there are none. Figures on queries
        that a ranker learnt from say nothing about others.

    Raises:
        UnknownName: no such ranker.
        FileNotFoundError: a file is not there, or nothing is prepared.
        ValueError: a file is not what it should be, by line and column.
    """
    check(ranker)
    known = catalogue.read(products) if products is not None else catalogue.prepared(train.tables(layout))
    read = judged.read(judgments, known)
    reader = encoder or train.reader(layout)
    searchable = Searchable(known, reader)
    found: dict[str, Any] = {"source": train.SOURCE, "ranker": ranker, "judgments": str(judgments)}
    if ranker in PLAIN:
        scores = PLAIN[ranker](read.lists, searchable)
    else:
        trained = _trained(layout, ranker, encoder)
        scores = trained.scores(ranker, read.lists, matrix(read.lists, searchable))
        found["ranker_digest"] = digest(train.folder(layout))
        seen = among(read.lists.queries, trained.queries)
        found |= {"seen_queries": int(seen.sum()), "unseen": _figures(scores, read.lists, known, np.flatnonzero(~seen))}
    found |= measure.figures(scores, read.lists, known, negated(read.lists))
    return found | {"judged_pairs": read.pairs, "unknown_products": read.unknown, "queries_of_unknown_products": read.lost}


def _figures(scores: FloatArray, lists: Lists, known: Catalogue, chosen: IntArray) -> dict[str, Any] | None:
    """Figures of some of the lists."""
    if not len(chosen):
        return None
    some = lists.take(chosen)
    return measure.figures(scores[lists.rows(chosen)], some, known, negated(some))


def _trained(layout: Layout, ranker: str, encoder: Reader | None) -> Trained:
    """The trained ranker, made now if it was not."""
    folder = train.folder(layout)
    if not (folder / MANIFEST).is_file():
        print(f"  {ranker} is not trained yet: training it on the prepared judgments", file=sys.stderr, flush=True)
        train.train(layout, encoder=encoder)
    return Trained.load(folder)
