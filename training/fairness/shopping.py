"""Judged search lists of ESCI for the comparison: BM25 scores, groups by how often a product was rated.

The ranker is BM25 on title, brand and category, its parameters the textbook's, nothing learnt: what is compared is what fairness costs,
not how good a ranker can be. A list's scores are divided by its highest, so that a price means the same on all lists.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np

from ranking.fairness.exposure import discounts
from ranking.features import HEAD_SHARE, stable_key
from ranking.types import TIERS, FloatArray, IntArray
from training.fairness.lists import PAGE, ScoredLists
from training.sources.esci import Judged, Product, judgments, products

VALIDATION = 3  # one query in so many
_K1, _B = 1.2, 0.75
_WORD = re.compile(r"\w+")


class Bm25:
    """Okapi BM25 over a fixed set of texts (Robertson and Zaragoza 2009, equation 3.15)."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._words = {name: Counter(_WORD.findall(text.lower())) for name, text in texts.items()}
        self._length = {name: sum(words.values()) for name, words in self._words.items()}
        self._mean = max(float(np.mean(list(self._length.values()))), 1.0)
        self._in = Counter(word for words in self._words.values() for word in words)

    def scores(self, query: str, names: tuple[str, ...]) -> FloatArray:
        """(n,) how well each of the texts `names` matches."""
        out = np.zeros(len(names))
        for word in set(_WORD.findall(query.lower())):
            weight = np.log1p((len(self._words) - self._in[word] + 0.5) / (self._in[word] + 0.5))
            times = np.array([self._words[name][word] for name in names], np.float64)
            norm = _K1 * (1.0 - _B + _B * np.array([self._length[name] for name in names]) / self._mean)
            out += weight * times * (_K1 + 1.0) / (times + norm)
        return out


def tiers(catalogue: dict[str, Product]) -> dict[str, int]:
    """Codes into `TIERS`: head, the fifth of the products rated most often; new, those never rated; tail, the others."""
    counts = np.array([p.rating_count for p in catalogue.values()])
    head = max(float(np.quantile(counts, 1.0 - HEAD_SHARE)), 1.0)
    return {asin: 2 if p.rating_count == 0 else int(p.rating_count < head) for asin, p in catalogue.items()}


def read(folder: Path, seed: int) -> tuple[ScoredLists, ScoredLists]:
    """Validation and test lists: a fixed split of the queries, in an order of the seed's own.

    Raises:
        FileNotFoundError: the folder does not hold the files.
        ValueError: a file is not what it should be, or a product judged is not among the products.
    """
    catalogue, judged = products(folder), judgments(folder)
    unknown = next((a for j in judged for a in j.products if a not in catalogue), None)
    if unknown is not None:
        raise ValueError(f"judgments: product {unknown!r} is not among the products")
    ranker, tier = Bm25({asin: p.text for asin, p in catalogue.items()}), tiers(catalogue)
    held_out = [stable_key(j.query) % VALIDATION == 0 for j in judged]
    valid, test = ([j for j, v in zip(judged, held_out, strict=True) if v == side] for side in (True, False))
    return _lists(valid, ranker, tier, seed), _lists(test, ranker, tier, seed)


def _lists(judged: list[Judged], ranker: Bm25, tier: dict[str, int], seed: int) -> ScoredLists:
    ids: IntArray = np.random.default_rng(seed).permutation(len(judged))
    asked = [judged[i] for i in ids.tolist()]
    scores = [ranker.scores(j.query, j.products) for j in asked]
    best = [np.sort(j.gains)[::-1][:PAGE] for j in asked]
    return ScoredLists(
        scores=np.concatenate([s / max(s.max(), 1e-9) for s in scores]),
        groups=np.array([tier[a] for j in asked for a in j.products], np.int64),
        gains=np.array([g for j in asked for g in j.gains]),
        offsets=np.concatenate(([0], np.cumsum([len(j.products) for j in asked]))).astype(np.int64),
        ideal=np.array([float(b @ discounts(len(b))) for b in best]),
        ids=ids,
        names=TIERS,
    )
