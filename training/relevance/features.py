"""All features of (query, product, list) as one matrix: words, the encoder's view, and how a product stands within its list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray
from training.relevance import lexical, semantic
from training.relevance.judged import Lists
from training.relevance.pool import neighbourhood, ranks, shared, smoothed, z_scores
from training.relevance.searchable import Searchable, asked

STANDING = (
    "cosine", "maxsim", "penalised", "weakest", "last_token", "title_maxsim", "bm25_title", "bm25_head", "bm25_description", "bm25_all",
    "cover_head", "cover_all", "trigrams_title", "share_title", "brand_words", "title_words", "log_price", "rating", "log_ratings",
)  # fmt: skip
"""Features of which a product's place within its list is one too: in standard deviations, and as a rank."""
SMOOTHED = ("cosine", "penalised", "cover_all")
_PENALTY = 0.15
_SHARE, _WIDTH = 0.7, 0.2  # of the neighbours in a smoothed score, and how near they are


@dataclass(frozen=True, slots=True)
class Matrix:
    """Features of N rows.

    Attributes:
        names: one per column.
        values: (N, d) float32; NaN where unknown.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]

    def column(self, name: str) -> FloatArray:
        """(N,) one feature."""
        return self.values[:, self.names.index(name)].astype(np.float64)


def matrix(lists: Lists, searchable: Searchable) -> Matrix:
    """Features of all lists' rows; nothing is learnt and no gain is read, so that lists do not depend on each other."""
    columns: dict[str, list[FloatArray]] = {}
    for i, query in enumerate(asked(lists)):
        for name, values in lexical.features(query, lists.items[lists.span(i)], searchable.lexicon).items():
            columns.setdefault(name, []).append(values)
    found = {name: np.concatenate(values) for name, values in columns.items()} | semantic.features(lists, searchable)
    found["penalised"] = found["maxsim"] - _PENALTY * found["unwanted_maxsim"]
    found |= _within(lists, searchable, found)
    return Matrix(tuple(found), np.column_stack(list(found.values())).astype(np.float32))


def _within(lists: Lists, searchable: Searchable, found: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """How each product stands in its list, and what stands near it."""
    rows, of_row = np.unique(lists.items, return_inverse=True)
    titles = searchable.titles(rows)
    out: dict[str, list[FloatArray]] = {}
    for i in range(len(lists)):
        span = lists.span(i)
        one: dict[str, FloatArray] = {}
        for name in STANDING:
            one[f"z_{name}"], one[f"rank_{name}"] = z_scores(found[name][span]), ranks(found[name][span])
        strength = one["z_penalised"] + one["z_bm25_head"] + one["z_cover_all"] - 0.5 * z_scores(found["unwanted_title"][span])
        similarity = semantic.similarities(titles, of_row[span])
        one |= neighbourhood(similarity, strength)
        items = lists.items[span].tolist()
        one["shared_category"] = shared([searchable.catalogue.leaves[row] for row in items], strength)
        one["shared_brand"] = shared([searchable.catalogue.brands[row] for row in items], strength)
        for name in SMOOTHED:
            one[f"smooth_{name}"] = smoothed(one[f"z_{name}"], similarity, share=_SHARE, width=_WIDTH)
        for name, values in one.items():
            out.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in out.items()}
