"""The files the feature tables leave for events, as the `Lines` of `ranking.behaviour`."""

from __future__ import annotations

from dataclasses import dataclass
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

    def of_user(self, user: str) -> Lines:
        return self.lines.take(self.user_ids == user)

    def of_item(self, item: str) -> Lines:
        return self.lines.take(self.item_ids == item)

    def purchases(self, at_us: int) -> np.ndarray:
        """Ascending numbers of purchases of every item sold before `at_us`."""
        return np.sort(np.unique(self.item_ids[self.lines.bought_at < at_us], return_counts=True)[1])


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
