"""The canonical tables (ARCHITECTURE.md, `docs/bring-your-own-data.md`): names, columns, kinds, and what a folder of them must fulfil.

Every source writes them, everything after reads them. Knows no source. Columns and tables beyond the declared ones are welcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from training.sources.kinds import CAST, Kind, misfit, serves


@dataclass(frozen=True, slots=True)
class Column:
    """One declared column. A required one is there and never NULL, nor empty unless `blank`; another may be absent, and NULL."""

    name: str
    kind: Kind
    meaning: str
    required: bool = True
    blank: bool = False


def _maybe(name: str, kind: Kind, meaning: str) -> Column:
    return Column(name, kind, meaning, required=False)


_ITEM, _TIME = Column("item_id", "text", "the item"), Column("event_time", "instant", "when, with its time zone")
_USER = Column("user_id", "text", "the user; empty: nobody known", blank=True)
TABLES: Mapping[str, tuple[Column, ...]] = {
    "items": (
        Column("item_id", "text", "unique"),
        Column("title", "text", "what a reader would call it; may be empty", blank=True),
        _maybe("category", "text", "its smallest category"),
        _maybe("category_path", "text", "from the largest category to the smallest, joined by ` > `"),
        _maybe("brand", "text", "the brand's name"),
        _maybe("seller", "text", "who sells it"),
        _maybe("price", "number", "in the shop's currency, not below 0"),
        _maybe("created_at", "instant", "when it was first for sale"),
    ),
    "users": (Column("user_id", "text", "unique"),),
    "events": (
        Column("event_id", "text", "unique"),
        _TIME,
        _USER,
        _ITEM,
        _maybe("surface", "text", "`search`, `ads` or empty"),
        _maybe("query", "text", "what was searched for; empty where nothing was"),
        Column("event_type", "text", "`purchase`, `click`, `cart` …"),
        _maybe("position", "integer", "place on the page, from 1"),
        _maybe("value", "number", "money that changed hands"),
    ),
    "impressions": (
        Column("list_id", "text", "candidates with one list_id were shown together"),
        _TIME,
        Column("surface", "text", "`search` or `ads`"),
        _USER,
        Column("query", "text", "search text; empty for ads", blank=True),
        _ITEM,
        _maybe("position", "integer", "place on the page, from 1"),
        Column("label", "integer", "1: what was hoped for happened, else 0"),
    ),
    "judgments": (Column("query", "text", "search text"), _ITEM, Column("gain", "number", "how well the item suits the query, 0 to 1")),
    "reviews": (
        _ITEM,
        _maybe("event_time", "instant", "when it was written"),
        Column("rating", "number", "stars, 1 to 5"),
        Column("text", "text", "what it says; may be empty", blank=True),
    ),
    "sessions": (Column("session_id", "text", "unique"), Column("label", "integer", "1: it ended in a purchase, else 0")),
}
KEYS: Mapping[str, tuple[str, ...]] = {
    "items": ("item_id",),
    "users": ("user_id",),
    "events": ("event_id",),
    "impressions": ("list_id", "item_id"),
    "judgments": ("query", "item_id"),
    "sessions": ("session_id",),
}
"""Columns that name a row: no two rows of a table have the same."""

_RANGES = {
    ("events", "surface"): "IN ('search', 'ads', '')",
    ("events", "position"): ">= 1",
    ("impressions", "surface"): "IN ('search', 'ads')",
    ("impressions", "position"): ">= 1",
    ("impressions", "label"): "BETWEEN 0 AND 1",
    ("sessions", "label"): "BETWEEN 0 AND 1",
    ("judgments", "gain"): "BETWEEN 0 AND 1",
    ("reviews", "rating"): "BETWEEN 1 AND 5",
    ("items", "price"): ">= 0",
}


def present(folder: Path) -> tuple[str, ...]:
    """Names of the declared tables that `folder` has, in the order of `TABLES`."""
    return tuple(name for name in TABLES if (folder / f"{name}.parquet").exists())


def problems(folder: Path) -> list[str]:
    """All that is wrong with the declared tables of a folder, one line each, by table and column; empty when all is well."""
    names = present(folder)
    if not names:
        return [f"no table; known: {', '.join(f'{name}.parquet' for name in TABLES)}"]
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for name in names:
            db.from_parquet(str(folder / f"{name}.parquet")).create_view(name)
        return [line for name in names for line in _wrong_in(db, name, names)]


def _wrong_in(db: duckdb.DuckDBPyConnection, table: str, tables: Sequence[str]) -> list[str]:
    types = {row[0]: str(row[1]) for row in db.execute(f"DESCRIBE {table}").fetchall()}
    lines = [] if db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() else [f"{table}: has no row; leave the file out"]
    fit: dict[str, Column] = {}
    for column in TABLES[table]:
        if column.name not in types:
            lines += [f"{table}.{column.name}: missing"] if column.required else []
        elif not serves(types[column.name], column.kind):
            line = misfit(db, table, column.name, column.kind, types[column.name])
            lines.append(f"{table}.{line or f'{column.name}: must be {CAST[column.kind]}, is {types[column.name]}'}")
        else:
            fit[column.name] = column

    def count(what: str, where: str) -> None:
        row = db.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()
        if row and row[0]:
            lines.append(f"{table}.{what} ({row[0]} rows)")

    for name, column in fit.items():
        if column.required:
            count(f"{name}: is NULL", f"{name} IS NULL")
            if column.kind == "text" and not column.blank:
                count(f"{name}: is empty", f"{name} = ''")
        if types[name] in ("FLOAT", "DOUBLE"):
            count(f"{name}: is not finite", f"NOT isfinite({name})")
        if (table, name) in _RANGES:
            count(f"{name}: must be {_RANGES[table, name]}", f"NOT {name} {_RANGES[table, name]}")
    for name, owner in (("item_id", "items"), ("user_id", "users")):
        if name in fit and owner in tables and owner != table:
            count(
                f"{name}: is not among the {owner}", f"{name} <> '' AND {name} NOT IN (SELECT {name} FROM {owner} WHERE {name} IS NOT NULL)"
            )
    key = KEYS.get(table, ())
    if key and all(name in fit for name in key):
        names = ", ".join(key)
        row = db.execute(f"SELECT count(*) - count(DISTINCT ({names})) FROM {table} WHERE ({names}) IS NOT NULL").fetchone()
        if row and row[0]:
            lines.append(f"{table}.{' + '.join(key)}: must be unique ({row[0]} rows repeat)")
    if table == "impressions":
        for name in ("event_time", "surface", "user_id", "query"):
            if name in fit and "list_id" in fit:
                count(
                    f"{name}: must be the same in the whole list",
                    f"list_id IN (SELECT list_id FROM {table} GROUP BY 1 HAVING min({name}) <> max({name}))",
                )
    return lines
