"""Visits of the online shop as arrays: raw columns, which resampling works on, and what models read, which is derived from them after.

Knows columns, no method. Ratios are derived after resampling, so that a made-up visit keeps its own arithmetic.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.imbalance.columns import Columns
from training.sources import online_shoppers as source

NUMERIC = tuple(source.column(name) for name in source.NUMERIC)
CATEGORICAL = tuple(source.column(name) for name in source.CATEGORICAL)
_COUNTS = ("administrative", "informational", "product_related")
_DERIVED, _HAS_VALUE, _VALUE_BY_PAGES = 15, 4, 6  # columns of `derived`, and the places of two of them
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "June", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # as the file writes them


@dataclass(frozen=True, slots=True)
class Sessions:
    """Visits.

    Attributes:
        rows: (n, 17) float32: ten numbers, then seven category codes.
        labels: (n,) 1: the visit ended in a purchase.
        levels: categories of each coded column.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int8]
    levels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def columns(self) -> Columns:
        """Kinds of the raw columns, for resampling: durations have heavy tails."""
        coded = range(len(NUMERIC), len(NUMERIC) + len(CATEGORICAL))
        return Columns(categorical=tuple(coded), integer=tuple(NUMERIC.index(name) for name in _COUNTS), scaling="quantile")

    def some(self, chosen: NDArray[np.int64]) -> Sessions:
        """The visits of those indices."""
        return Sessions(self.rows[chosen], self.labels[chosen], self.levels)


def read(folder: Path) -> Sessions:
    """Read the source's file.

    Args:
        folder: the file, or the folder it is in.

    Raises:
        FileNotFoundError, ValueError: as the source says.
    """
    with tempfile.TemporaryDirectory() as out:
        source.write_tables(Path(out), folder)
        table = pq.read_table(Path(out) / "sessions.parquet")
    numbers = [table[name].to_numpy() for name in NUMERIC]
    columns, levels = [], []
    for name in CATEGORICAL:
        texts = table[name].to_pylist()
        place = {text: code for code, text in enumerate(sorted(set(texts), key=_in_order))}
        columns.append(np.array([place[text] for text in texts]))
        levels.append(len(place))
    rows = np.stack([*numbers, *columns], axis=1).astype(np.float32)
    return Sessions(rows, table["label"].to_numpy().astype(np.int8), tuple(levels))


def _in_order(text: str) -> tuple[int, str]:
    """Months by the calendar, so that their codes also count; other categories by their text."""
    return (_MONTHS.index(text) if text in _MONTHS else -1, text)


def derived(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 15) what a visit's numbers say together: lengths, time per page, page values against length and leaving, place in the year."""
    of = {name: rows[:, i].astype(np.float64) for i, name in enumerate(NUMERIC)}
    pages = of["administrative"] + of["informational"] + of["product_related"]
    seconds = of["administrative_duration"] + of["informational_duration"] + of["product_related_duration"]
    value, leaving = of["page_values"], of["exit_rates"]
    columns = [
        pages,
        seconds,
        seconds / (pages + 1),
        of["product_related_duration"] / (of["product_related"] + 1),
        value > 0,
        value * leaving,
        value * pages,
        leaving - of["bounce_rates"],
        leaving * pages,
        of["product_related"] / (pages + 1),
        of["administrative_duration"] / (of["administrative"] + 1),
        of["informational_duration"] / (of["informational"] + 1),
        value / (pages + 1),
        np.log1p(value) * np.log1p(of["product_related"]),
        rows[:, len(NUMERIC) + CATEGORICAL.index("month")],
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def monotone() -> list[int]:
    """(32,) per column of `for_trees`: 1 where more of it only makes a purchase likelier, -1 less likely, 0 where nothing is known."""
    of = {name: i for i, name in enumerate(NUMERIC)}
    first = len(NUMERIC) + len(CATEGORICAL)
    out = [0] * (first + _DERIVED)
    for column in (of["page_values"], first + _HAS_VALUE, first + _VALUE_BY_PAGES):
        out[column] = 1
    for column in (of["bounce_rates"], of["exit_rates"]):
        out[column] = -1
    return out


def for_trees(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[int]]:
    """(n, 32) raw and derived columns, and which of them hold categories."""
    return np.concatenate([rows, derived(rows)], axis=1), list(range(len(NUMERIC), len(NUMERIC) + len(CATEGORICAL)))


def one_hot(rows: NDArray[np.float32], levels: tuple[int, ...]) -> NDArray[np.float32]:
    """(n, d) numbers, derived columns and one column per category; heavy tails as logarithms, for models that add columns up."""
    numbers = np.concatenate([rows[:, : len(NUMERIC)], derived(rows)], axis=1)
    numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
    hot = [rows[:, len(NUMERIC) + i, None] == np.arange(count) for i, count in enumerate(levels)]
    return np.concatenate([numbers, *hot], axis=1).astype(np.float32)
