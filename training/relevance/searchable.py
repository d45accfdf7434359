"""A catalogue ready to be searched: its words, and the token states of those titles that somebody asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray
from training.relevance.catalogue import Catalogue
from training.relevance.encoder import Reader, States, finish
from training.relevance.judged import Lists
from training.relevance.lexical import Lexicon
from training.relevance.query import Query, parse


class Read:
    """Texts as the encoder sees them."""

    def __init__(self, states: States) -> None:
        """From the last layer's token states, each then brought to length 1."""
        sizes = np.diff(states.offsets)
        sums = np.add.reduceat(states.values, states.offsets[:-1], axis=0, dtype=np.float64) / sizes[:, None]
        self.vectors: NDArray[np.float32] = (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)
        """(n, d) sentence vectors of length 1: the mean of the token states."""
        norms = np.linalg.norm(states.values, axis=1, keepdims=True)
        self.tokens = States((states.values / norms).astype(np.float32), states.offsets)
        """Token states of length 1."""


class Searchable:
    """A catalogue with what reading it needs; what was read is kept for the lists it was read for."""

    def __init__(self, catalogue: Catalogue, reader: Reader) -> None:
        self.catalogue, self.reader = catalogue, reader
        self._kept: dict[str, Read] = {}

    @cached_property
    def lexicon(self) -> Lexicon:
        """The words."""
        return Lexicon(self.catalogue)

    def read(self, texts: Sequence[str]) -> Read:
        """Texts by the pretrained encoder."""
        return Read(finish(self.reader.upper(), self.reader.lower(texts)))

    def titles(self, rows: IntArray) -> Read:
        """Titles of (m,) distinct rows of the catalogue; kept."""
        return self._keep([self.catalogue.titles[row] for row in rows.tolist()])

    def leaves(self, names: Sequence[str]) -> Read:
        """Names of categories; kept."""
        return self._keep(names)

    def _keep(self, texts: Sequence[str]) -> Read:
        key = hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()
        if key not in self._kept:
            self._kept[key] = self.read(texts)
        return self._kept[key]


def asked(lists: Lists) -> tuple[Query, ...]:
    """The queries of lists, taken apart."""
    return tuple(parse(text) for text in lists.queries)


def negated(lists: Lists) -> NDArray[np.bool_]:
    """(L,) which queries say what is not wanted."""
    return np.array([query.negated for query in asked(lists)], bool)


def by_list(lists: Lists, values: Sequence[FloatArray]) -> FloatArray:
    """(N,) from one array per list, in the lists' order."""
    out: FloatArray = np.concatenate(values) if values else np.zeros(0)
    assert len(out) == lists.offsets[-1]
    return out
