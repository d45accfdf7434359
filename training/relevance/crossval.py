"""Scores out of fold, by query: whatever ranks a query was learnt from other queries only.

Every setting of the learners is fixed beforehand, so no fold chooses anything; the two weights of the BERT ranker are chosen on the
training folds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ranking.types import FloatArray, IntArray
from training.progress import Bar
from training.relevance import ensemble, late
from training.relevance.features import Matrix
from training.relevance.judged import Lists
from training.splits import by_group

FOLDS = 5


def folds(lists: Lists, *, seed: int = 0, count: int = FOLDS) -> IntArray:
    """(L,) the fold of each list, by a hash of its query.

    Raises:
        ValueError: fewer queries than folds.
    """
    if len(lists) < count:
        raise ValueError(f"judgments: {len(lists)} queries with known products, need at least {count} to be judged on queries apart")
    return by_group(lists.queries, (1,) * count, seed=seed).astype(np.int64)


Method = Callable[[IntArray, IntArray], dict[str, FloatArray]]
"""`(training lists, test lists) -> name -> scores of the test lists' rows`."""


def out_of_fold(
    lists: Lists, method: Method, *, seed: int = 0, count: int = FOLDS, what: str = "cross-validation"
) -> dict[str, FloatArray]:
    """Name -> (N,) scores of every row by the fold that did not see its query."""
    part = folds(lists, seed=seed, count=count)
    out: dict[str, FloatArray] = {}
    with Bar(what, count) as bar:
        for fold in range(count):
            train, test = np.flatnonzero(part != fold), np.flatnonzero(part == fold)
            rows = lists.rows(test)
            for name, scores in method(train, test).items():
                out.setdefault(name, np.full(len(lists.items), np.nan))[rows] = scores
            bar.advance()
    return out


def rankers(lists: Lists, features: Matrix) -> Method:
    """The trained rankers, and each learner of the ensemble under its own name."""

    def method(train: IntArray, test: IntArray) -> dict[str, FloatArray]:
        chosen, judged, asked = lists.rows(train), lists.take(train), lists.take(test)
        seen = Matrix(features.names, features.values[chosen])
        unseen = Matrix(features.names, features.values[lists.rows(test)])
        fitted = ensemble.fit(seen.values, judged.gains, judged.offsets)
        members = fitted.by_member(unseen.values, asked.offsets)
        return members | {
            "ensemble": np.mean(list(members.values()), axis=0),
            "late": late.fit(seen, judged).scores(unseen),
        }

    return method
