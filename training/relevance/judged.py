"""Judged lists: queries, the products somebody judged for each, and how well they suit. Knows no ranker."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray
from training.relevance.catalogue import Catalogue
from training.sources.esci import GAINS

COLUMNS = ("query", "asin", "esci_label", "gain")


@dataclass(frozen=True, slots=True)
class Lists:
    """L lists, one after the other.

    Attributes:
        queries: (L,) as typed.
        items: (N,) rows of the catalogue.
        offsets: (L + 1,) list boundaries.
        gains: (N,) within [0, 1].
    """

    queries: tuple[str, ...]
    items: IntArray
    offsets: IntArray
    gains: FloatArray

    def __len__(self) -> int:
        return len(self.queries)

    def span(self, i: int) -> slice:
        """Rows of list i."""
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    def take(self, chosen: IntArray) -> Lists:
        """Some of the lists, in the order of (m,) `chosen`."""
        rows = self.rows(chosen)
        sizes = np.diff(self.offsets)[chosen]
        return Lists(tuple(self.queries[i] for i in chosen), self.items[rows], np.concatenate([[0], np.cumsum(sizes)]), self.gains[rows])

    def rows(self, chosen: IntArray) -> NDArray[np.int64]:
        """Rows of some of the lists, in the order of (m,) `chosen`."""
        parts = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Read:
    """What a file of judgments held.

    Attributes:
        lists: of known products.
        pairs: judged pairs in the file.
        unknown: those whose product is not in the catalogue, left out.
        lost: queries of which no product is known, left out.
    """

    lists: Lists
    pairs: int
    unknown: int
    lost: int


def read(file: Path, catalogue: Catalogue) -> Read:
    """Judgments by query, queries in the order in which they first appear.

    Args:
        file: CSV with the columns `query`, `asin`, `esci_label`, `gain`; others are ignored. A label and its gain must agree.
        catalogue: products that can be ranked.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: naming the file, the line and the column that is wrong, or a file that leaves nothing to judge.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not there; wanted a CSV with the columns {', '.join(COLUMNS)}")
    grouped: dict[str, dict[str, float]] = {}
    pairs = 0
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            lines = csv.DictReader(opened, strict=True)
            lacking = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
            if lacking:
                raise ValueError(f"{file} line 1: no column {lacking[0]!r}; wanted {', '.join(COLUMNS)}")
            for row in lines:
                query, asin, gain = _pair(row, f"{file} line {lines.line_num}")
                list_ = grouped.setdefault(query, {})
                if asin in list_:
                    raise ValueError(f"{file} line {lines.line_num}, column asin: {asin!r} is judged twice for query {query!r}")
                list_[asin] = gain
                pairs += 1
    except csv.Error as wrong:
        raise ValueError(f"{file} line {lines.line_num}: not CSV ({wrong})") from wrong
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{file}: not UTF-8 ({wrong})") from wrong
    known = {query: {a: g for a, g in list_.items() if a in catalogue.rows} for query, list_ in grouped.items()}
    kept = {query: list_ for query, list_ in known.items() if list_}
    if not kept:
        raise ValueError(f"{file}: no judgment of a known product ({pairs} of unknown products)" if pairs else f"{file}: no judgment")
    found = lists_of({q: [(catalogue.rows[a], g) for a, g in list_.items()] for q, list_ in kept.items()})
    return Read(found, pairs, pairs - len(found.items), len(known) - len(kept))


def prepared(tables: Path, catalogue: Catalogue) -> Lists:
    """Lists of prepared canonical tables.

    Raises:
        FileNotFoundError: there are none.
    """
    grouped: dict[str, list[tuple[int, float]]] = {}
    for row in pq.read_table(tables / "judgments.parquet").to_pylist():
        grouped.setdefault(row["query"], []).append((catalogue.rows[row["item_id"]], float(row["gain"])))
    return lists_of(grouped)


def lists_of(pairs: dict[str, list[tuple[int, float]]]) -> Lists:
    """Lists from (row of the catalogue, gain) by query."""
    rows = [pair for list_ in pairs.values() for pair in list_]
    sizes = [len(list_) for list_ in pairs.values()]
    return Lists(
        tuple(pairs),
        np.array([item for item, _ in rows], np.int64),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array([gain for _, gain in rows], np.float64),
    )


def _pair(row: dict[str, str | None], where: str) -> tuple[str, str, float]:
    """One line's query, product and gain."""
    if None in row:
        raise ValueError(f"{where}: more values than columns")
    value = {name: (row[name] or "").strip() for name in COLUMNS}
    for name in COLUMNS:
        if not value[name]:
            raise ValueError(f"{where}, column {name}: empty")
    if value["esci_label"] not in GAINS:
        raise ValueError(f"{where}, column esci_label: {value['esci_label']!r} is not known; known: {', '.join(GAINS)}")
    try:
        gain = float(value["gain"])
    except ValueError:
        gain = math.nan
    if not math.isclose(gain, GAINS[value["esci_label"]], abs_tol=1e-9):
        raise ValueError(
            f"{where}, column gain: must be {GAINS[value['esci_label']]:g} for label {value['esci_label']}, got {value['gain']!r}"
        )
    return value["query"], value["asin"], gain
