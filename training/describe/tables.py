"""Measures a folder of canonical tables: rows, balance of items and categories, labels, and the same by split.

Every table is split as one would train on it: lists and queries whole, by time where there is nothing else to go by, by the weeks of
training where the source has weeks. Knows no source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from training.describe.measures import Balance, balance
from training.lists.types import WEEKS
from training.splits import PARTS, RATIO, Parts, by_group, by_time, stratified
from training.tables.duck import THREADS

ALL = "all"


@dataclass(frozen=True, slots=True)
class Labels:
    """How often a label takes each of its values.

    Attributes:
        split: how its table was divided, in words.
        counts: value, as text -> rows in each of `PARTS`; ascending by value.
    """

    split: str
    counts: Mapping[str, tuple[int, ...]]

    @property
    def imbalance(self) -> Balance:
        """Of the values, over all parts."""
        return balance(np.array([sum(c) for c in self.counts.values()], np.int64))


@dataclass(frozen=True, slots=True)
class Description:
    """What `describe` found.

    Attributes:
        source: its name.
        rows: table -> rows.
        split: how what the balances count was divided, in words; empty without balances.
        balances: e.g. "clicks per item" -> "all" and each of `PARTS` -> their balance. Empty for a source without items.
        labels: table and column, e.g. "impressions.label" -> its values. A label that is always the same is left out.
    """

    source: str
    rows: Mapping[str, int]
    split: str
    balances: Mapping[str, Mapping[str, Balance]]
    labels: Mapping[str, Labels]


# What counts as an interaction with an item: the first of these that a source has.
_INTERACTIONS = (
    ("events", "true", "events"),
    ("impressions", "label = 1", "clicks"),
    ("reviews", "true", "reviews"),
    ("judgments", "gain > 0", "suitable queries"),
)
_LABELS = (
    ("events", "event_type"),
    ("impressions", "label"),
    ("judgments", "gain"),
    ("reviews", "rating"),
    ("reviews", "recommended"),
    ("sessions", "label"),
)
_READ = {
    "items": ("item_id", "category"),
    "events": ("event_id", "event_time", "item_id", "event_type", "list_id", "week"),
    "impressions": ("list_id", "item_id", "label"),
    "judgments": ("query", "item_id", "gain"),
    "reviews": ("item_id", "rating", "recommended"),
    "sessions": ("session_id", "label"),
    "weeks": ("week",),
}
"""The columns that are looked at, of each table that is; a table may have any others."""
_MOST_VALUES = 12  # a number with more values is shown in tenths


def describe(folder: Path, *, seed: int = 0) -> Description:
    """Describe the canonical tables of a prepared source.

    Args:
        folder: holds the tables and `meta.json`.
        seed: of the splits that are drawn.

    Raises:
        FileNotFoundError: nothing was prepared there.
    """
    if not (folder / "meta.json").exists():
        raise FileNotFoundError(f"{folder}: no prepared data; `longtail data prepare {folder.name}` makes them")
    meta = json.loads((folder / "meta.json").read_text())
    with duckdb.connect(config={"threads": THREADS}) as db:
        tables = {name: _view(db, name, path) for name in _READ if (path := folder / f"{name}.parquet").exists()}
        splits = {name: _split(db, name, tables, seed) for name in dict(_LABELS) if name in tables}
        labels = {f"{t}.{c}": Labels(splits[t], _values(db, t, c)) for t, c in _LABELS if c in tables.get(t, ())}
        counted = next((i for i in _INTERACTIONS if i[0] in tables), None) if "items" in tables else None
        balances = _balances(db, tables["items"], *counted) if counted else {}
    return Description(
        source=meta["source"],
        rows=meta["rows"],
        split=splits[counted[0]] if counted else "",
        balances=balances,
        labels={name: label for name, label in labels.items() if len(label.counts) > 1},
    )


def _view(db: duckdb.DuckDBPyConnection, name: str, path: Path) -> list[str]:
    """Name a file as a view of the columns looked at and the number of each row, and return those columns."""
    relation = db.from_parquet(str(path))
    columns = [column for column in _READ[name] if column in relation.columns]
    relation.project(", ".join([*columns, "row_number() OVER () AS row_number"])).create_view(name)
    return columns


def _split(db: duckdb.DuckDBPyConnection, table: str, tables: Mapping[str, list[str]], seed: int) -> str:
    """Make the view `{table}_in_parts`, the table's rows with their `part`, and say how they were divided."""
    columns, ratio = tables[table], ":".join(map(str, RATIO))

    def units(unit: str, **values: str) -> dict[str, Any]:
        selected = "".join(f", min({value}) AS {name}" for name, value in values.items())
        return db.execute(
            f"SELECT {table}.{unit} AS unit{selected} FROM {table} {joined} WHERE {table}.{unit} IS NOT NULL GROUP BY unit ORDER BY unit"
        ).fetchnumpy()

    joined = "JOIN items USING (item_id)" if "item_id" in columns and "category" in tables.get("items", ()) else ""
    category = "items.category" if joined else "''"
    if "week" in columns and "weeks" in tables:
        unit, words = "week", f"weeks {', '.join(f'{first}–{last}' for first, last in WEEKS.values())}"
        found = units(unit)
        firsts = [first for first, _ in WEEKS.values()]
        parts: Parts = (np.searchsorted(firsts, found["unit"], side="right") - 1).astype(np.int8)  # -1: before all
    elif "list_id" in columns:
        unit, words = "list_id", f"{ratio} by list, stratified by the category of what was clicked"
        found = units(unit, stratum=f"CASE WHEN label = 1 THEN {category} END" if "label" in columns else category)
        strata = np.ma.filled(found["stratum"], "")
        parts = stratified(found["unit"], strata.astype(str), seed=seed)
    elif "query" in columns and "gain" in columns:
        unit, words = "query", f"{ratio} by query"
        found = units(unit)
        parts = by_group(found["unit"], seed=seed)
    elif "event_id" in columns:
        unit, words = "event_time", f"{ratio} by time"
        found = units(unit, times="event_time")
        parts = by_time(found["unit"], found["times"])
    else:
        label = "rating" if "rating" in columns else "label"
        unit, words = "row_number", f"{ratio}, stratified by {label}"
        found = units(unit, stratum=label)
        parts = stratified(found["unit"], found["stratum"], seed=seed)
    db.register(f"{table}_parts", pa.table({"unit": found["unit"], "part": parts}))
    joined_parts = f"LEFT JOIN {table}_parts ON {table}.{unit} = {table}_parts.unit"
    db.execute(f"CREATE VIEW {table}_in_parts AS SELECT {table}.*, part FROM {table} {joined_parts}")
    return words


def _values(db: duckdb.DuckDBPyConnection, table: str, column: str) -> dict[str, tuple[int, ...]]:
    """Rows of each value of a label in each part."""
    kind = db.execute(f"SELECT count(DISTINCT {column}), any_value(typeof({column})) FROM {table}").fetchone()
    assert kind is not None
    value = f"round({column}, 1)" if kind[0] > _MOST_VALUES and kind[1] in ("DOUBLE", "FLOAT") else column
    per_part = ", ".join(f"count(*) FILTER (part = {part})" for part in range(len(PARTS)))
    rows = db.execute(f"SELECT {value} AS v, {per_part} FROM {table}_in_parts WHERE {column} IS NOT NULL GROUP BY v ORDER BY v").fetchall()
    return {f"{v:g}" if isinstance(v, float) else str(v): tuple(counts) for v, *counts in rows}


def _balances(db: duckdb.DuckDBPyConnection, columns: list[str], table: str, where: str, noun: str) -> dict[str, dict[str, Balance]]:
    """Interactions per item and, where items have one, per category: of all rows, and of each part."""
    counts = ", ".join(["count(*) AS n", *(f"count(*) FILTER (part = {part}) AS n{part}" for part in range(len(PARTS)))])
    names = (ALL, *PARTS)
    selected = ", ".join(f"coalesce(sum(c.{n}), 0)::BIGINT AS {n}" for n in ("n", *(f"n{part}" for part in range(len(PARTS)))))
    found = {}
    for thing, key in (("item", "item_id"), ("category", "category")):
        if key not in columns:
            continue
        rows = db.execute(f"""
            SELECT {selected} FROM items
            LEFT JOIN (SELECT item_id, {counts} FROM {table}_in_parts WHERE {where} GROUP BY item_id) c USING (item_id)
            WHERE {key} <> '' GROUP BY {key}""").fetchnumpy()
        if len(rows["n"]):
            found[f"{noun} per {thing}"] = {name: balance(values) for name, values in zip(names, rows.values(), strict=True)}
    return found
