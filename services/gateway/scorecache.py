"""The score cache: what text members said of (query text, item text) pairs, so that a pair is scored once per model version."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import repeat
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from ranking.types import FloatArray


class Asked(NamedTuple):
    """What a score depends on besides the item's text."""

    model: str
    version: int
    text: str


class ScoreCache:
    """LRU by `Asked`, each holding item text digest -> log-odds. Not thread-safe: it lives on the event loop."""

    def __init__(self, capacity: int) -> None:
        """Hold at most about `capacity` scores in all; the query texts used least lately go first."""
        self._capacity = capacity
        self._size = 0
        self._texts: OrderedDict[Asked, dict[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def get(self, asked: Asked, digests: list[int]) -> FloatArray:
        """(n,) log-odds of each digest, NaN where not known."""
        known = self._texts.get(asked)
        if known is None:
            return np.full(len(digests), nan)
        self._texts.move_to_end(asked)
        return np.fromiter(map(known.get, digests, repeat(nan)), np.float64, len(digests))

    def put(self, asked: Asked, digests: Iterable[int], scores: Iterable[float]) -> None:
        """Remember scores; NaN is not remembered, so that it is asked again."""
        known = self._texts.setdefault(asked, {})
        before = len(known)
        known.update((d, s) for d, s in zip(digests, scores, strict=True) if not isnan(s))
        self._size += len(known) - before
        self._texts.move_to_end(asked)
        while self._size > self._capacity and len(self._texts) > 1:
            _, dropped = self._texts.popitem(last=False)
            self._size -= len(dropped)
