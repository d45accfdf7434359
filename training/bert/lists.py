"""Lists of text pairs from the sources that have a query: what rankers with heads are compared and transferred on.

`shop` is the generated shop, whose truth is known; `esci` real queries. Both cut texts as serving does. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ranking.features import MAX_ITEM_TOKENS, MAX_QUERY_TOKENS
from ranking.text import item_text, query_text
from ranking.types import FloatArray
from training.bert.data import Pairs
from training.sources import esci as esci_source
from training.sources import imbalanced_shop
from training.tables.tokens import Tokens

HEAD, TAIL = "head", "tail"


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists to rank, with what a person reads and what they are judged by.

    Attributes:
        pairs: texts, `features` and `images` where there are such; labels `list` (what is trained on) and others of the source.
        gains: (p,) true gain of each candidate.
        queries: (L,) as asked.
        titles: (p,) as shown.
        tiers: (p,) `head` or `tail`.
        groups: (L,) what errors are told by: a department, or the kind of query.
    """

    pairs: Pairs
    gains: FloatArray
    queries: Sequence[str]
    titles: Sequence[str]
    tiers: Sequence[str]
    groups: Sequence[str]

    def __len__(self) -> int:
        return len(self.pairs)

    def take(self, lists: NDArray[np.int64]) -> Lists:
        """These lists, in this order."""
        offsets = self.pairs.offsets
        rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in lists]) if len(lists) else np.empty(0, np.int64)
        return Lists(
            self.pairs.take(lists),
            self.gains[rows],
            [self.queries[i] for i in lists],
            [self.titles[i] for i in rows],
            [self.tiers[i] for i in rows],
            [self.groups[i] for i in lists],
        )


def shop(count: int, *, candidates: int = 10, seed: int = imbalanced_shop.SEED, departments: Sequence[str] = ()) -> Lists:
    """Lists of the generated shop: the clicked candidate among others that were shown, by true relevance.

    Labels: `list` and `click`, 1 for the item clicked; `satisfaction`, 1 where its buyer gave 4 stars or more and 0 where fewer, unknown
    where nobody wrote a review, as of everything that was not clicked. Features: `query_overlap` and `taste_share`; images as generated.

    Args:
        count: of lists, drawn by the seed.
        candidates: of each list, the clicked one among them.
        seed: of the shop and the draw.
        departments: only lists whose clicked item is of these; empty: all.
    """
    tables = _tables(seed)
    items, shown, reviews = tables["items"], tables["impressions"], tables["reviews"]
    paths = [path.partition(" > ")[0] for path in items["category_path"].to_pylist()]
    place = {item: i for i, item in enumerate(items["item_id"].to_pylist())}
    width = imbalanced_shop.CANDIDATES
    item = np.array([place[i] for i in shown["item_id"].to_pylist()]).reshape(-1, width)
    label = shown["label"].to_numpy().reshape(-1, width)
    clicked = item[np.arange(len(item)), label.argmax(axis=1)]
    users = shown["user_id"].to_numpy(zero_copy_only=False).reshape(-1, width)[:, 0]
    stars = {(u, place[i]): s for u, i, s in zip(*(reviews[c].to_pylist() for c in ("user_id", "item_id", "rating")), strict=True)}
    rng = np.random.default_rng(seed)
    fit = np.flatnonzero([not departments or paths[i] in departments for i in clicked])
    chosen = rng.permutation(fit)[:count]
    columns = {c: shown[c].to_numpy().reshape(-1, width) for c in ("relevance", "query_overlap", "taste_share")}
    at = np.empty((len(chosen), candidates), np.int64)
    for row, i in zip(at, chosen, strict=True):
        others = rng.permutation(np.flatnonzero(label[i] == 0))[: candidates - 1]
        row[:] = rng.permutation(np.append(others, label[i].argmax()))
    flat = (np.repeat(chosen, candidates), at.ravel())
    rows = item[flat]
    clicks = label[flat].astype(np.float32)
    asked = shown["query"].to_numpy(zero_copy_only=False).reshape(-1, width)[chosen, 0]
    satisfied = np.array(
        [float(stars[u, i] >= 4) if c and (u, i) in stars else np.nan for u, i, c in zip(users[flat[0]], rows, clicks, strict=True)],
        np.float32,
    )
    titles, tokens = items["title"].to_pylist(), Tokens()
    texts = tokens([item_text(title, path) for title, path in zip(titles, paths, strict=True)], MAX_ITEM_TOKENS)
    queries = tokens([query_text(q, "") for q in asked], MAX_QUERY_TOKENS)
    pairs = Pairs(
        [queries[i] for i in np.repeat(np.arange(len(chosen)), candidates)],
        [texts[i] for i in rows],
        {"list": clicks, "click": clicks, "satisfaction": satisfied},
        np.arange(len(chosen) + 1) * candidates,
        np.stack([columns["query_overlap"][flat], columns["taste_share"][flat]], axis=1).astype(np.float32),
        np.stack(items["image"].to_numpy(zero_copy_only=False))[rows].astype(np.float32),
    )
    number = items["category_number"].to_numpy()[rows]
    return Lists(
        pairs,
        columns["relevance"][flat].astype(np.float64),
        list(asked),
        [titles[i] for i in rows],
        [HEAD if n <= imbalanced_shop.HEADS else TAIL for n in number],
        [paths[i] for i in clicked[chosen]],
    )


def esci(folder: Path, *, queries: int = 0, candidates: int = 0, seed: int = 0) -> Lists:
    """Judged products of real queries; labels `list` and `click` are the gains. Head: the fifth of the products rated most often.

    Args:
        folder: of the source's files.
        queries: only so many, drawn by the seed; 0: all.
        candidates: at most so many of each; 0: all.
        seed: of the draws.
    """
    catalogue, judged = esci_source.products(folder), esci_source.judgments(folder)
    rng, tokens = np.random.default_rng(seed), Tokens()
    judged = [judged[i] for i in np.sort(rng.permutation(len(judged))[: queries or None])]
    rows = [(i, product, gain) for i, one in enumerate(judged) for product, gain in _some(rng, one, candidates)]
    often = np.array([catalogue[p].rating_count for _, p, _ in rows])
    cut = np.quantile([p.rating_count for p in catalogue.values()], 0.8)
    asked = tokens([query_text(one.query, "") for one in judged], MAX_QUERY_TOKENS)
    texts = tokens([item_text(catalogue[p].text) for _, p, _ in rows], MAX_ITEM_TOKENS)
    gains = np.array([gain for *_, gain in rows])
    label = gains.astype(np.float32)
    return Lists(
        Pairs(
            [asked[i] for i, *_ in rows],
            texts,
            {"list": label, "click": label},
            np.concatenate([[0], np.cumsum(np.bincount([i for i, *_ in rows], minlength=len(judged)))]),
        ),
        gains,
        [one.query for one in judged],
        [catalogue[p].text for _, p, _ in rows],
        [HEAD if n >= cut else TAIL for n in often],
        ["negated" if {"without", "no", "not"} & set(one.query.lower().split()) else "plain" for one in judged],
    )


@lru_cache(maxsize=1)
def _tables(seed: int) -> dict[str, pa.Table]:
    return imbalanced_shop.tables(seed)  # seconds, and several parts draw lists of the same shop


def _some(rng: np.random.Generator, one: esci_source.Judged, most: int) -> list[tuple[str, float]]:
    every = list(zip(one.products, one.gains, strict=True))
    return every if not most else [every[i] for i in np.sort(rng.permutation(len(every))[:most])]
