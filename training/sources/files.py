"""What the sources that read files share: finding them, reading their columns, writing items with their keys, and `meta.json`.

Errors name the path and the column and say what belongs there. Knows no source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from ranking.features import stable_key
from ranking.text import text_digest
from training.tables.duck import connect, write

ADDED = ("item_code", "item_key", "category_key", "text_digest")


def find(path: Path, name: str) -> Path:
    """The file `name` in the folder `path`, or `path` itself where it is a file.

    Raises:
        FileNotFoundError: it is not there.
    """
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not there; --path names {name} or the folder it is in")
    return file


def digest(files: Iterable[Path]) -> dict[str, str]:
    """32 hex digits over each file's content, by file name. O(bytes)."""
    found = {}
    for path in files:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return found


@contextmanager
def reading(out: Path, file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that spills under `out`; what it cannot make of `file` is said with the file's name.

    Raises:
        ValueError: the file does not hold what is read from it.
    """
    with connect(out) as db:
        try:
            yield db
        except duckdb.Error as wrong:
            raise ValueError(f"{file}: {str(wrong).strip()}") from wrong


def view(db: duckdb.DuckDBPyConnection, name: str, file: Path, columns: Iterable[str], *, text: Iterable[str] = ()) -> list[str]:
    """Name a CSV or Parquet file as a view, refuse it unless it has all `columns`, and return the columns it has.

    Columns of a CSV file that are named in `text` are read as they stand: an id like `007` is not a number.

    Raises:
        ValueError: naming the columns that are missing and those that are there.
    """
    is_parquet = file.suffix == ".parquet"
    relation = db.from_parquet(str(file)) if is_parquet else db.read_csv(str(file))
    missing = [column for column in columns if column not in relation.columns]
    if missing:
        raise ValueError(f"{file}: no column {', '.join(missing)}; it has {', '.join(relation.columns)}")
    if not is_parquet:
        relation = db.read_csv(str(file), dtype={column: "VARCHAR" for column in text if column in relation.columns})
    relation.create_view(name)
    return list(relation.columns)


def write_items(db: duckdb.DuckDBPyConnection, query: str, out: Path) -> int:
    """Write `items.parquet` from a query with at least item_id, title and category, and return the number of items.

    Added: ``item_key``, ``category_key`` and ``text_digest``, the stable keys the features use, and ``item_code``, dense in the order of
    the keys, so that the order of codes says nothing about age or popularity. Columns of these names that the query has are replaced.
    """
    db.execute(f"CREATE OR REPLACE TABLE source_items AS SELECT COLUMNS(c -> c NOT IN {ADDED}) FROM ({query})")
    names = db.execute("SELECT DISTINCT unnest([item_id, category]) AS name FROM source_items").to_arrow_table()
    titles = db.execute("SELECT DISTINCT title FROM source_items").to_arrow_table()
    db.register("names", names.append_column("key", pa.array([stable_key(n or "") for n in names["name"].to_pylist()], pa.int64())))
    digests = pa.array([text_digest(t or "") for t in titles["title"].to_pylist()], pa.int64())
    db.register("titles", titles.append_column("text_digest", digests))
    return write(
        db,
        """
        SELECT s.*, (row_number() OVER (ORDER BY i.key, s.item_id) - 1)::INTEGER AS item_code, i.key AS item_key,
               coalesce(c.key, 0) AS category_key, coalesce(t.text_digest, 0) AS text_digest
        FROM source_items s JOIN names i ON i.name = s.item_id
        LEFT JOIN names c ON c.name = s.category LEFT JOIN titles t ON t.title = s.title
        ORDER BY item_code""",
        out / "items.parquet",
    )


def write_meta(out: Path, source: str, version: str, rows: Mapping[str, int]) -> None:
    """Write `meta.json`: the source, its version, the rows of each table, and the first and last event where there are events."""
    meta: dict[str, object] = {"source": source, "version": version}
    if (out / "events.parquet").exists():
        with connect(out) as db:
            span = db.execute(
                "SELECT min(event_time)::VARCHAR, max(event_time)::VARCHAR FROM read_parquet(?)", [str(out / "events.parquet")]
            ).fetchone()
        meta |= dict(zip(("first_event", "last_event"), span or (), strict=False))
    (out / "meta.json").write_text(json.dumps(meta | {"rows": dict(rows)}, indent=1))
