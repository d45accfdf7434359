"""What a column may hold, by kind: which types serve, how another type is read as one, and which value cannot be.

Nothing is rounded: 0.5 is no integer. Knows no table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import duckdb

Kind = Literal["text", "number", "integer", "instant"]
CAST: Mapping[Kind, str] = {"text": "VARCHAR", "number": "DOUBLE", "integer": "BIGINT", "instant": "TIMESTAMP WITH TIME ZONE"}
"""What a column of each kind is written as when it has to be converted."""
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "BOOLEAN")
_FRACTIONS = ("FLOAT", "DOUBLE", "DECIMAL", "HUGEINT", "UBIGINT")  # a number is an integer or one of these
_SERVE: Mapping[Kind, tuple[str, ...]] = {
    "text": ("VARCHAR",),
    "number": _INTEGERS + _FRACTIONS,
    "integer": _INTEGERS,
    "instant": ("TIMESTAMP WITH TIME ZONE",),
}
_SHOWN = 40  # characters of a value in a message


def serves(type_name: str, kind: Kind) -> bool:
    """Whether a column of that DuckDB type is of the kind as it stands."""
    return type_name.partition("(")[0] in _SERVE[kind]


def read_as(name: str, kind: Kind, type_name: str) -> str:
    """SQL of the column `name` as its kind, NULL where a value cannot be read as such. A time without a zone is in the database's."""
    value, target = f'"{name}"', CAST[kind]
    if not (kind == "text" or serves(type_name, kind) or (kind == "instant" and type_name.startswith(("TIMESTAMP", "DATE")))):
        value = f"CAST({value} AS VARCHAR)"  # every type has a cast to text, not every one to the target
    read = f"TRY_CAST({value} AS {target})"
    return f"CASE WHEN {read} = TRY_CAST({value} AS DOUBLE) THEN {read} END" if kind == "integer" else read  # a cast alone rounds


def misfit(db: duckdb.DuckDBPyConnection, table: str, name: str, kind: Kind, type_name: str) -> str | None:
    """What a column holds that cannot be read as its kind: the first such value, its row (from 1) and how many there are; else None."""
    if serves(type_name, kind):
        return None
    found = db.execute(f"""
        WITH every AS (
            SELECT row_number() OVER () AS place, CAST("{name}" AS VARCHAR) AS value, {read_as(name, kind, type_name)} AS read FROM {table}
        )
        SELECT count(*), min(place), arg_min(value, place) FROM every WHERE value IS NOT NULL AND read IS NULL""").fetchone()
    if found is None or not found[0]:
        return None
    return f"{name}: must be {CAST[kind]}, is {found[2][:_SHOWN]!r} in row {found[1]} ({found[0]} rows)"
