"""Your own shop's data: a folder of canonical tables, as Parquet or CSV files, written with the keys that features use.

The columns are those of `training.sources.canonical`; `docs/bring-your-own-data.md` is the page to read. Further columns are kept,
further files are left alone.
"""

from __future__ import annotations

from pathlib import Path

from training.sources.canonical import TABLES
from training.sources.files import digest, reading, view, write_items, write_meta
from training.tables.duck import write

NAME = "own"
ENDINGS = (".parquet", ".csv", ".csv.gz")
WANTED = f"a folder of canonical tables ({', '.join(TABLES)}), each as one {', '.join(ENDINGS)} file"


def files(path: Path) -> tuple[Path, ...]:
    """One file per table that the folder has, in the order of `TABLES`.

    Raises:
        FileNotFoundError: it has none.
        ValueError: it has a table twice.
    """
    found = []
    for table in TABLES:
        there = [file for ending in ENDINGS if (file := path / f"{table}{ending}").exists()]
        if len(there) > 1:
            raise ValueError(f"{path}: {' and '.join(f.name for f in there)} are one table; keep one of them")
        found += there
    if not found:
        raise FileNotFoundError(f"{path}: no table there; --path must name {WANTED}")
    return tuple(found)


def write_tables(out: Path, path: Path) -> None:
    """Write every table the folder has, and ``meta.json``, into `out`. What cannot be read as its kind is left for the check to name.

    Raises:
        FileNotFoundError: the folder has no table.
        ValueError: a file is damaged or a column is missing.
    """
    rows = {}
    chosen = files(path)
    for file in chosen:
        table = file.name.partition(".")[0]
        with reading(out, file) as db:
            misfits = view(db, "raw", file, [c.name for c in TABLES[table] if c.required], {c.name: c.kind for c in TABLES[table]})
            # CSV knows no empty text, only absent values: where a text may be empty it is meant to be.
            blank = ", ".join(f"coalesce({c.name}, '') AS {c.name}" for c in TABLES[table] if c.blank)
            query = f"SELECT * REPLACE ({blank}) FROM raw" if blank else "FROM raw"
            if table == "items" and not misfits:
                has_category = "category" in db.table("raw").columns
                rows[table] = write_items(db, query if has_category else f"SELECT *, '' AS category FROM ({query})", out)
            else:  # in the file's order, so that the check names the rows of misfits as the file has them
                rows[table] = write(db, query, out / f"{table}.parquet")
    write_meta(out, NAME, "-".join(digest(chosen).values()), rows)
