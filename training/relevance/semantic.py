"""What the sentence encoder says of how well titles suit a query: cosine, and late interaction token by token (MaxSim).

MaxSim (Khattab and Zaharia 2020, section 3.3): the mean over the query's tokens of the largest cosine with any token of the title. The
part of a query that is not wanted is read apart: how much of it a title has counts against the title.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray
from training.relevance.judged import Lists
from training.relevance.searchable import Read, Searchable, asked

_FIRST = 6  # tokens of a title that mostly name the thing


def features(lists: Lists, searchable: Searchable) -> dict[str, FloatArray]:
    """Name -> (N,) of all lists' rows; NaN for the category of a product without one."""
    queries = asked(lists)
    rows, of_row = np.unique(lists.items, return_inverse=True)
    titles = searchable.titles(rows)
    wanted = searchable.read([query.wanted_text for query in queries])
    typed = searchable.read([query.text for query in queries])
    cut = [" ".join(query.unwanted) for query in queries]
    some = [i for i, text in enumerate(cut) if text]
    unwanted = searchable.read([cut[i] for i in some]) if some else None
    denied = searchable.read([f"without {cut[i]}" for i in some]) if some else None
    names = sorted({leaf for row in rows.tolist() if (leaf := searchable.catalogue.leaves[row])})
    leaves = searchable.leaves(names).vectors if names else np.zeros((0, titles.vectors.shape[1]), np.float32)
    place = {name: i for i, name in enumerate(names)}
    out: dict[str, list[FloatArray]] = {}
    for i in range(len(lists)):
        mine = of_row[lists.span(i)]
        vectors = titles.vectors[mine]
        one = {"cosine": vectors @ wanted.vectors[i], "cosine_typed": vectors @ typed.vectors[i]}
        one |= interaction(wanted.tokens.of(i), [titles.tokens.of(int(t)) for t in mine])
        one |= dict.fromkeys(("unwanted_maxsim", "unwanted_cosine", "without_cosine"), np.zeros(len(mine)))
        if unwanted is not None and denied is not None and i in some:
            place_ = some.index(i)
            tokens = unwanted.tokens.of(place_)[1:-1]
            one["unwanted_maxsim"] = np.array([float((tokens @ titles.tokens.of(int(t)).T).max(axis=1).mean()) for t in mine])
            one["unwanted_cosine"] = vectors @ unwanted.vectors[place_]
            one["without_cosine"] = vectors @ denied.vectors[place_]
        named = [place.get(searchable.catalogue.leaves[row], -1) for row in lists.items[lists.span(i)].tolist()]
        one["cosine_category"] = np.array([float(leaves[n] @ wanted.vectors[i]) if n >= 0 else np.nan for n in named])
        for name, values in one.items():
            out.setdefault(name, []).append(np.asarray(values, np.float64))
    return {name: np.concatenate(values) for name, values in out.items()}


def interaction(query: NDArray[np.float32], titles: Sequence[NDArray[np.float32]]) -> dict[str, FloatArray]:
    """MaxSim of one query's tokens (q, d) with n titles' (t, d), and where the match is weak.

    Returns:
        `maxsim`: mean of the tokens' best matches; `weakest`, `two_weakest`, `first_token`, `last_token`: of the query's own tokens, the
        framing ones left out; `title_maxsim`, `title_start`: the other way round, of the title's tokens and of its first six.
    """
    matches = [query @ title.T for title in titles]  # (q, t) each
    best = np.stack([match.max(axis=1) for match in matches])  # (n, q)
    own = best[:, 1:-1] if best.shape[1] > 2 else best
    back = [match.max(axis=0)[1:-1] if match.shape[1] > 2 else match.max(axis=0) for match in matches]
    return {
        "maxsim": best.mean(axis=1),
        "weakest": own.min(axis=1),
        "two_weakest": np.sort(own, axis=1)[:, :2].mean(axis=1),
        "first_token": own[:, 0],
        "last_token": own[:, -1],
        "title_maxsim": np.array([float(b.mean()) for b in back]),
        "title_start": np.array([float(b[:_FIRST].mean()) for b in back]),
    }


def similarities(titles: Read, of_row: IntArray) -> FloatArray:
    """(n, n) cosines of titles with each other."""
    vectors = titles.vectors[of_row].astype(np.float64)
    return vectors @ vectors.T
