"""What the sources that read files share: finding them, reading their columns, writing items with their keys, and `meta.json`.

Errors name the path and the column and say what belongs there. Knows no source.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ranking.features import stable_key
from ranking.text import text_digest
from training.sources.kinds import Kind, misfit, read_as
from training.tables.duck import connect, write

_ADVICE = re.compile(r"\n\s*(?:LINE \d|Possible |The search space)")  # where DuckDB goes on with SQL of ours and options of its own
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
            raise ValueError(f"{file}: {_ADVICE.split(str(wrong), maxsplit=1)[0].strip()}") from wrong


def view(
    db: duckdb.DuckDBPyConnection, name: str, file: Path, columns: Iterable[str], kinds: Mapping[str, Kind] | None = None
) -> list[str]:
    """Name a CSV or Parquet file as a view and return what of it is not of its kind, one line by column.

    Args:
        db: gets the view.
        name: of the view.
        file: read as CSV unless its name ends in `.parquet`. Text columns are read as they stand: an id like `007` is not a number.
        columns: it must have.
        kinds: of columns, where it has them; they are converted. A column with a value that cannot be is left as it is. Columns that are
            not named are numbers, times and so on where all of their values are, else text.

    Raises:
        ValueError: the file is damaged, or naming the columns that are missing and those that are there.
    """
    kinds = kinds or {}
    if file.suffix == ".parquet":
        relation = db.from_parquet(str(file))
    else:
        _refuse_damaged(file)
        # Types are those of all rows (-1), and no row is taken for a comment or skipped to make sense of the others.
        every_row: dict[str, Any] = {"header": True, "skiprows": 0, "comment": "", "sample_size": -1}
        has = db.read_csv(str(file), **every_row).columns
        text = {column: "VARCHAR" for column, kind in kinds.items() if kind == "text" and column in has}
        relation = db.read_csv(str(file), dtype=text, **every_row)
    missing = [column for column in columns if column not in relation.columns]
    if missing:
        raise ValueError(f"{file}: no column {', '.join(missing)}; it has {', '.join(relation.columns)}")
    relation.create_view(f"{name}_as_it_is")
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    misfits = {c: line for c in types if c in kinds and (line := misfit(db, f"{name}_as_it_is", c, kinds[c], types[c]))}
    read = ", ".join(f'{read_as(c, kinds[c], types[c])} AS "{c}"' for c in types if c in kinds and c not in misfits)
    db.execute(f"CREATE VIEW {name} AS SELECT * {f'REPLACE ({read})' if read else ''} FROM {name}_as_it_is")
    return list(misfits.values())


def _refuse_damaged(file: Path) -> None:
    """DuckDB takes what a truncated gzip file still gives for all of it."""
    if file.suffix == ".gz":
        try:
            with gzip.open(file) as content:
                while content.read(1 << 20):
                    pass
        except (EOFError, zlib.error, gzip.BadGzipFile) as wrong:
            raise ValueError(f"{file}: damaged ({wrong})") from wrong


def refuse(file: Path, misfits: Iterable[str]) -> None:
    """Refuse a file for what of it is not of its kind.

    Raises:
        ValueError: there is such; all of it.
    """
    if lines := "".join(f"\n  {line}" for line in misfits):
        raise ValueError(f"{file}: not what it should be{lines}")


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
        SELECT s.*, (row_number() OVER (ORDER BY i.key, s.item_id) - 1)::INTEGER AS item_code, coalesce(i.key, 0) AS item_key,
               coalesce(c.key, 0) AS category_key, coalesce(t.text_digest, 0) AS text_digest
        FROM source_items s LEFT JOIN names i ON i.name = s.item_id
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
