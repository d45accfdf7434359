"""BM25 and word overlap of queries with one text field of a catalogue. Words are `training.relevance.words`'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ranking.types import FloatArray, IntArray
from training.members.bm25 import Corpus, bm25
from training.relevance.words import words


class Field:
    """The words of one text per product, ready to be matched."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Ids are given to words in the order in which they first appear; 0 is padding."""
        self.words: list[list[str]] = [words(text) for text in texts]
        self._ids: dict[str, int] = {}
        coded = [[self._ids.setdefault(word, len(self._ids) + 1) for word in text] for text in self.words]
        self._tokens = np.zeros((len(coded), max((len(text) for text in coded), default=0) or 1), np.int32)
        for row, text in zip(self._tokens, coded, strict=True):
            row[: len(text)] = text
        self._corpus = Corpus.of(self._tokens) if self._tokens.any() else None

    def idf(self, found: Sequence[str]) -> FloatArray:
        """(w,) how rare words are among the texts; a word of no text is as rare as one of half a text."""
        unseen = float(np.log1p((len(self.words) + 0.5) / 0.5))
        idf = self._corpus.idf if self._corpus is not None else np.zeros(1)
        return np.array([float(idf[self._ids[w]]) if w in self._ids else unseen for w in found])

    def bm25(self, found: Sequence[str], rows: IntArray) -> FloatArray:
        """(n,) BM25 of the words with the texts of (n,) rows; 0 where a text is empty."""
        query = np.array([self._ids[w] for w in found if w in self._ids], np.int64)
        if self._corpus is None or not len(query):
            return np.zeros(len(rows))
        return bm25(self._corpus, query, self._tokens[rows])

    def coverage(self, found: Sequence[str], rows: IntArray) -> FloatArray:
        """(n,) share of the words' idf that the texts of (n,) rows have; 0 without words."""
        has, weights = self.has(found, rows), self.idf(found)
        total = float(weights.sum())
        return has @ weights / total if total > 0 else np.zeros(len(rows))

    def has(self, found: Sequence[str], rows: IntArray) -> FloatArray:
        """(n, w) 1 where the text of a row has the word."""
        out = np.zeros((len(rows), len(found)))
        for column, word in enumerate(found):
            if word in self._ids:
                out[:, column] = (self._tokens[rows] == self._ids[word]).any(axis=1)
        return out
