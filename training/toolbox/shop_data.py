"""The generated shop as arrays: what a model may read of each candidate, and the truth that it is judged by.

Knows columns and the split, no method. Clicks are counted out of fold, so that no row's own click is among its features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.types import FloatArray
from training.sources import imbalanced_shop as source
from training.splits import PARTS, stratified

HONEST = ("query_overlap", "taste_share", "price", "stars", "weight_kg", "material")
POPULARITY = ("item_clicks", "category_clicks")
NAMES = (*HONEST, *POPULARITY)
TRAIN, VALID, TEST = range(len(PARTS))
_FOLDS = 5  # of the training lists, for counting clicks


@dataclass(frozen=True)
class Shop:
    """All candidates of all lists, in lists of equal length.

    Attributes:
        features: (N, 8) float32, `NAMES`.
        labels: (N,) int8, 1: the item clicked.
        relevance: (N,) true probability of a click on the item if it is looked at.
        relevant: (N,) bool, whether this user would have clicked it then.
        category: (N,) number of the item's category, from 1.
        lists: (N,) int64 list of each row.
        part: (N,) `TRAIN`, `VALID` or `TEST`.
        clicks: (100,) clicks of each category in the training lists.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    relevance: FloatArray
    relevant: NDArray[np.bool_]
    category: NDArray[np.int64]
    lists: NDArray[np.int64]
    part: NDArray[np.int8]
    clicks: NDArray[np.int64]

    @cached_property
    def tail(self) -> NDArray[np.bool_]:
        """(N,) the item is of a category that has few interactions."""
        return self.category > source.HEADS

    @cached_property
    def prior(self) -> FloatArray:
        """(N,) log share of the clicks that the item's category has, with one click added to each."""
        out: FloatArray = np.log((self.clicks + 1) / (self.clicks + 1).sum())[self.category - 1]
        return out

    def rows(self, part: int) -> NDArray[np.int64]:
        """Rows of a part, list by list."""
        return np.flatnonzero(self.part == part)


def read(folder: Path | None = None, *, seed: int = source.SEED) -> dict[str, pa.Table]:
    """``items`` and ``impressions`` as the source wrote them, or generated here where no folder is given."""
    if folder is None:
        return source.tables(seed)
    return {name: pq.read_table(folder / f"{name}.parquet") for name in ("items", "impressions")}


def shop(tables: Mapping[str, pa.Table], *, lists: int | None = None, seed: int = 0) -> Shop:
    """Arrays of the tables; the split is 5:2:3, stratified by the category clicked.

    Args:
        tables: ``items`` and ``impressions``.
        lists: keep so many of the lists, drawn at random; default: all.
        seed: of the split and of the draw.
    """
    shown, items = tables["impressions"], tables["items"]
    ids, owner = _coded(shown["list_id"])
    order = np.argsort(owner, kind="stable")
    if lists is not None and lists < len(ids):
        kept = np.zeros(len(ids), bool)
        kept[np.random.default_rng(seed).choice(len(ids), lists, replace=False)] = True
        order = order[kept[owner[order]]]
    owner = owner[order]
    place = {item: i for i, item in enumerate(items["item_id"].to_pylist())}
    names, code = _coded(shown["item_id"])
    item = np.array([place[name] for name in names])[code][order]
    number, label = items["category_number"].to_numpy()[item], shown["label"].to_numpy()[order].astype(np.int8)
    clicked = np.zeros(len(ids), np.int64)
    clicked[owner[label == 1]] = number[label == 1]
    part = stratified(ids[owner], clicked[owner], seed=seed)
    fold = np.where(part == TRAIN, stratified(ids[owner], clicked[owner], (1,) * _FOLDS, seed=seed + 1), -1)
    _, material = _coded(items["material"])
    columns = {name: shown[name].to_numpy()[order] for name in ("query_overlap", "taste_share")}
    columns |= {name: items[name].to_numpy()[item] for name in ("price", "stars", "weight_kg")} | {"material": material[item]}
    columns |= {"item_clicks": _log_counts(item, label, fold), "category_clicks": _log_counts(number, label, fold)}
    return Shop(
        np.stack([columns[name] for name in NAMES], axis=1).astype(np.float32),
        label,
        shown["relevance"].to_numpy()[order].astype(np.float64),
        shown["relevant"].to_numpy()[order] > 0,
        number.astype(np.int64),
        np.unique(owner, return_inverse=True)[1].astype(np.int64),
        part,
        np.bincount(number[(label == 1) & (part == TRAIN)], minlength=source.CATEGORIES + 1)[1:],
    )


def _coded(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct texts in order, and each row's place among them."""
    coded = column.combine_chunks().dictionary_encode()
    names, place = np.unique(coded.dictionary.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    return names, place[coded.indices.to_numpy()].astype(np.int64)


def _log_counts(of: NDArray[Any], label: NDArray[np.int8], fold: NDArray[np.int64]) -> FloatArray:
    """(N,) log of 1 + training clicks of each row's item or category; rows of a training fold count the other folds', scaled up."""
    size = int(of.max()) + 1
    by_fold = np.stack([np.bincount(of[(label == 1) & (fold == k)], minlength=size) for k in range(_FOLDS)])
    every = by_fold.sum(axis=0)
    others = (every - by_fold) * (_FOLDS / (_FOLDS - 1))
    out: FloatArray = np.log1p(np.where(fold >= 0, others[np.maximum(fold, 0), of], every[of]))
    return out
