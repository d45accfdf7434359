"""The files the feature tables leave for events, as the `Lines` of `ranking.behaviour`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ranking.behaviour import Lines
from ranking.features import stable_key


@dataclass(frozen=True)
class History:
    """Every line, and whose and what it is."""

    lines: Lines
    user_ids: np.ndarray  # (n,) of each line
    item_ids: np.ndarray  # (n,)
    categories: dict[int, str]
    first_shown: dict[str, int]  # item -> µs

    @cached_property
    def of_user(self) -> dict[str, Lines]:
        return self._by(self.user_ids)

    @cached_property
    def of_item(self) -> dict[str, Lines]:
        return self._by(self.item_ids)

    def purchases(self, at_us: int) -> np.ndarray:
        """Ascending numbers of purchases of every item sold before `at_us`."""
        return np.sort(np.unique(self.lines.item_key[self.lines.bought_at < at_us], return_counts=True)[1])

    def _by(self, ids: np.ndarray) -> dict[str, Lines]:
        names, of = np.unique(ids.astype(str), return_inverse=True)
        order, ends = np.argsort(of, kind="stable"), np.cumsum(np.bincount(of, minlength=len(names)))
        own = np.split(order, ends[:-1]) if len(names) else []
        return {str(name): self.lines.take(rows) for name, rows in zip(names, own, strict=True)}


def read_history(folder: Path) -> History:
    """The history in a folder of feature tables."""
    table = pq.read_table(folder / "history.parquet")
    profile = {row["item_id"]: row for row in pq.read_table(folder / "item_profile.parquet").to_pylist()}
    users, items = (np.array(table[name].to_pylist(), object) for name in ("user_id", "item_id"))

    def said(name: str, dtype: type[Any]) -> np.ndarray:
        return np.array([profile[i][name] for i in items], dtype)

    lines = Lines(
        item_key=np.array([stable_key(i) for i in items], np.int64),
        category_key=said("category_key", np.int64),
        type_key=said("type_key", np.int64),
        maker_key=said("maker_key", np.int64),
        is_private=said("is_private", np.bool_),
        user_code=np.unique(users, return_inverse=True)[1].astype(np.int64),
        bought_at=table["bought_at"].cast("int64").to_numpy(),
        **{name: table[name].to_numpy() for name in ("basket", "value", "unit_price", "off_shelf")},
    )
    shown = pq.read_table(folder / "first_shown.parquet")
    since = dict(zip(shown["item_id"].to_pylist(), pc.cast(shown["first_shown"], "int64").to_pylist(), strict=True))
    return History(lines, users, items, {row["category_key"]: row["category"] for row in profile.values()}, since)
