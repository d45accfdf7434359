"""The products that can be judged: their texts and few numbers as columns, by row. Knows no query.

Read from the canonical table ``items`` or from a file of products (see `training.sources.esci`): both say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ranking.features import HEAD_SHARE
from ranking.types import FloatArray, IntArray
from training.sources import esci

_WITHIN = " > "  # between the parts of a category path


@dataclass(frozen=True)
class Catalogue:
    """n products.

    Attributes:
        asins: product ids, each once.
        titles: as the shop shows them.
        brands: empty where unknown, like every text.
        categories: the path in words, widest first.
        leaves: the path's last part.
        colours: as the seller says.
        descriptions: the long text and the selling points.
        price: (n,) NaN where unknown.
        rating: (n,) 1 to 5, NaN where unknown.
        rating_count: (n,) 0: nobody rated it.
    """

    asins: tuple[str, ...]
    titles: tuple[str, ...]
    brands: tuple[str, ...]
    categories: tuple[str, ...]
    leaves: tuple[str, ...]
    colours: tuple[str, ...]
    descriptions: tuple[str, ...]
    price: FloatArray
    rating: FloatArray
    rating_count: IntArray

    def __len__(self) -> int:
        return len(self.asins)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each product id."""
        return {asin: row for row, asin in enumerate(self.asins)}

    @cached_property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """The categories of each product, widest first; none where unknown."""
        return tuple(tuple(path.split(_WITHIN)) if path else () for path in self.categories)

    @cached_property
    def tiers(self) -> IntArray:
        """(n,) codes into `TIERS`: head, the fifth rated most often; new, those never rated; tail, the others."""
        head = max(float(np.quantile(self.rating_count, 1.0 - HEAD_SHARE)), 1.0)
        return np.where(self.rating_count == 0, 2, (self.rating_count < head).astype(np.int64))

    @classmethod
    def of(cls, items: Iterable[Mapping[str, Any]]) -> Catalogue:
        """From rows of the canonical table ``items``; of two with one id the first counts.

        Raises:
            ValueError: no product.
        """
        by_id: dict[str, Mapping[str, Any]] = {}
        for item in items:
            by_id.setdefault(str(item["item_id"]), item)
        if not by_id:
            raise ValueError("products: none")

        def text(name: str) -> tuple[str, ...]:
            return tuple(str(item.get(name) or "") for item in by_id.values())

        def number(name: str) -> FloatArray:
            return np.array([np.nan if item.get(name) is None else float(item[name]) for item in by_id.values()])

        return cls(
            asins=tuple(by_id),
            titles=text("title"),
            brands=text("brand"),
            categories=text("category_path"),
            leaves=text("category"),
            colours=text("color"),
            descriptions=text("description"),
            price=number("price"),
            rating=number("rating"),
            rating_count=np.array([int(item.get("rating_count") or 0) for item in by_id.values()], np.int64),
        )


def read(file: Path) -> Catalogue:
    """The products of a file like `products.jsonl.gz`.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: naming the file and the line that is not a product.
    """
    return Catalogue.of(esci.read_items(file))


def prepared(tables: Path) -> Catalogue:
    """The products of prepared canonical tables.

    Raises:
        FileNotFoundError: there are none.
    """
    return Catalogue.of(pq.read_table(tables / "items.parquet").to_pylist())
