"""DuckDB as the batch tables use it: bounded threads and memory, UTC, spilling under the state directory.

Knows nothing of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

THREADS = 2
MEMORY = "3GB"  # the whole demo has 8 GB
_UTC = "SET TimeZone = 'UTC'"  # every cast between local and absolute time means UTC, whatever the machine's zone


@contextmanager
def connect(spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database for one stage; what does not fit in `MEMORY` goes to files under `spill`, removed at the end."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": THREADS,
        "memory_limit": MEMORY,
        "temp_directory": str(spill / ".spill"),
    }
    with duckdb.connect(config=settings) as db:
        db.execute(_UTC)
        yield db


def together(db: duckdb.DuckDBPyConnection, *parts: Callable[[duckdb.DuckDBPyConnection], Any]) -> list[Any]:
    """Run the parts side by side, each on its own connection to the same database, and return what they return, in order.

    Small queries, and what Python does between them, leave a second core idle. Temporary tables belong to one connection only.

    Raises:
        Exception: the first part's that failed, once all have ended.
    """

    def run(part: Callable[[duckdb.DuckDBPyConnection], Any]) -> Any:
        with db.cursor() as own:
            own.execute(_UTC)
            return part(own)

    with ThreadPoolExecutor(len(parts)) as pool:
        running = [pool.submit(run, part) for part in parts]
    return [part.result() for part in running]


def write(db: duckdb.DuckDBPyConnection, query: str, path: Path, *, row_group: int = 122_880) -> int:
    """Write a query's rows to one Parquet file and return their number. Rows keep the query's order."""
    target = str(path).replace("'", "''")
    db.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {row_group})")
    counted = db.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()
    assert counted is not None
    return int(counted[0])


def views(db: duckdb.DuckDBPyConnection, folder: Path, *names: str) -> None:
    """Name Parquet files of a folder as views."""
    for name in names:
        path = str(folder / f"{name}.parquet").replace("'", "''")
        db.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{path}')")
