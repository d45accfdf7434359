"""UCI Online Shoppers Purchasing Intention (Sakar et al. 2018): 12,330 visits of a web shop, 15.5 % of which ended in a purchase.

Reads `sessions.csv`. One table, ``sessions``: 17 features and the label. Knows nothing of models. The features count the whole visit,
``page_values`` even its purchases on earlier pages: they tell who bought after the fact, not who will.
"""

from __future__ import annotations

import re
from pathlib import Path

from training.sources.files import digest, find, reading, refuse, view, write_meta
from training.sources.kinds import Kind
from training.tables.duck import write

NAME = "online_shoppers"
FILE = "sessions.csv"
WANTED = f"{FILE} or the folder it is in"
NUMERIC = (
    "Administrative",
    "Administrative_Duration",
    "Informational",
    "Informational_Duration",
    "ProductRelated",
    "ProductRelated_Duration",
    "BounceRates",
    "ExitRates",
    "PageValues",
    "SpecialDay",
)
CATEGORICAL = ("Month", "OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType", "Weekend")


def column(name: str) -> str:
    """The file's column name as the table's: `ProductRelated_Duration` → ``product_related_duration``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def files(path: Path) -> tuple[Path, ...]:
    """The one file.

    Raises:
        FileNotFoundError: it is not there.
    """
    return (find(path, FILE),)


def write_tables(out: Path, path: Path) -> None:
    """Write ``sessions`` and ``meta.json`` into `out`: numbers as DOUBLE, categories as text.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: a column is missing or does not hold what it should.
    """
    (file,) = files(path)
    features = [f"{n} AS {column(n)}" for n in NUMERIC] + [f"{n}::VARCHAR AS {column(n)}" for n in CATEGORICAL]
    with reading(out, file) as db:
        kinds: dict[str, Kind] = {**dict.fromkeys(NUMERIC, "number"), "Revenue": "integer"}
        refuse(file, view(db, "raw", file, (*NUMERIC, *CATEGORICAL, "Revenue"), kinds))
        rows = write(
            db,
            f"SELECT (row_number() OVER () - 1)::VARCHAR AS session_id, {', '.join(features)}, Revenue AS label FROM raw",
            out / "sessions.parquet",
        )
    write_meta(out, NAME, digest([file])[file.name], {"sessions": rows})
