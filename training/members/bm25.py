"""BM25: how well an item's words match the query's, rare words counting more. Words are the token ids of the catalogue's texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Corpus:
    """What BM25 knows of a catalogue.

    Attributes:
        idf: (v,) ln(1 + (N − n_t + ½) / (n_t + ½)) of each token id t, n_t of N texts having it.
        mean_length: tokens per text.
    """

    idf: NDArray[np.float64]
    mean_length: float

    @classmethod
    def of(cls, token_ids: NDArray[np.int32]) -> Corpus:
        """From the token ids (N, t) of a catalogue's distinct texts, right-padded with 0; texts of padding only are none.

        Raises:
            ValueError: no text.
        """
        texts = token_ids[(token_ids != 0).any(axis=1)]
        if not len(texts):
            raise ValueError("token_ids: BM25 needs a text to count words in")
        ordered = np.sort(texts, axis=1)
        first = np.ones_like(ordered, bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]  # a token counts once per text
        having = np.bincount(ordered[first & (ordered != 0)])
        return cls(np.log1p((len(texts) - having + 0.5) / (having + 0.5)), float((texts != 0).sum() / len(texts)))


def bm25(
    corpus: Corpus, query: NDArray[np.int64], token_ids: NDArray[np.int32], *, k1: float = 1.2, b: float = 0.75
) -> NDArray[np.float64]:
    """Σ_t idf_t · f_t (k1 + 1) / (f_t + k1 (1 − b + b |d| / mean |d|)) over the query's tokens (Robertson and Zaragoza 2009, eq. 3.15).

    Args:
        corpus: of the catalogue.
        query: (q,) token ids; one that is there twice counts twice.
        token_ids: (n, t) items' token ids, right-padded with 0.
        k1: how fast repeats of a word stop counting.
        b: how much longer texts are held to more.

    Returns:
        (n,) scores ≥ 0; O(n t q).
    """
    lengths = (token_ids != 0).sum(axis=1)
    damping = k1 * (1 - b + b * lengths / corpus.mean_length)
    scores = np.zeros(len(token_ids))
    for token, times in zip(*np.unique(query[query != 0], return_counts=True), strict=True):
        if token < len(corpus.idf):  # a token no text has matches nothing
            frequency = (token_ids == token).sum(axis=1)
            scores += times * corpus.idf[token] * frequency * (k1 + 1) / (frequency + damping)
    return scores


def score(
    corpus: Corpus,
    query_ids: Sequence[NDArray[np.int64]],
    offsets: NDArray[np.int64],
    token_ids: NDArray[np.int32],
    digests: NDArray[np.int64],
    *,
    k1: float = 1.2,
    b: float = 0.75,
) -> NDArray[np.float64]:
    """Score lists, as `training.members.bert.score` does.

    Args:
        corpus: of the catalogue.
        query_ids: one per list; an empty one has nothing to match.
        offsets: (L + 1,) list boundaries.
        token_ids: (N, t) of all lists' items.
        digests: (N,) text digests; 0 means no text.
        k1: as in `bm25`.
        b: as in `bm25`.

    Returns:
        (N,) scores, NaN where an item or its list has no text.
    """
    out = np.full(len(digests), np.nan)
    for i, query in enumerate(query_ids):
        rows = np.arange(offsets[i], offsets[i + 1])
        rows = rows[digests[rows] != 0] if len(query) else rows[:0]
        out[rows] = bm25(corpus, query, token_ids[rows], k1=k1, b=b)
    return out
