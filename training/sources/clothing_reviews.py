"""Women's E-Commerce Clothing Reviews: what buyers of clothes wrote, their stars, and whether they recommend the piece.

Reads `reviews.csv.gz` (or `.csv`). There is no user and no time in it. Tables: ``items``, one per piece of clothing, described by its
division, department and class, as the pieces are anonymous; ``reviews``, one per review, with ``recommended`` (1: yes) as the label
that is out of balance. Knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path

from training.sources.files import digest, find, reading, refuse, view, write_items, write_meta
from training.sources.kinds import Kind
from training.tables.duck import write

NAME = "clothing_reviews"
FILE = "reviews.csv.gz"
WANTED = f"{FILE} or the folder it is in"
_KINDS: dict[str, Kind] = {
    "Clothing ID": "text",
    "Age": "integer",
    "Title": "text",
    "Review Text": "text",
    "Rating": "number",
    "Recommended IND": "integer",
    "Positive Feedback Count": "integer",
    "Division Name": "text",
    "Department Name": "text",
    "Class Name": "text",
}


def files(path: Path) -> tuple[Path, ...]:
    """The one file.

    Raises:
        FileNotFoundError: it is not there.
    """
    return (find(path, FILE),)


def write_tables(out: Path, path: Path) -> None:
    """Write ``items``, ``reviews`` and ``meta.json`` into `out`.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: a column is missing or does not hold what it should.
    """
    (file,) = files(path)
    with reading(out, file) as db:
        refuse(file, view(db, "raw", file, _KINDS, _KINDS))
        # A piece filed under several classes is read as the one most reviews name.
        items = write_items(
            db,
            """
            SELECT item_id, lower(concat_ws(' ', class, department)) AS title, coalesce(class, '') AS category,
                   concat_ws(' > ', division, department, class) AS category_path
            FROM (SELECT "Clothing ID" AS item_id, "Division Name" AS division, "Department Name" AS department,
                         "Class Name" AS class, count(*) AS times
                  FROM raw GROUP BY ALL)
            QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY times DESC, category_path) = 1""",
            out,
        )
        reviews = write(
            db,
            """
            SELECT "Clothing ID" AS item_id, NULL::TIMESTAMPTZ AS event_time, Rating AS rating,
                   coalesce("Review Text", '') AS text, coalesce(Title, '') AS title, "Recommended IND" AS recommended,
                   Age AS age, "Positive Feedback Count" AS votes
            FROM raw""",
            out / "reviews.parquet",
        )
    write_meta(out, NAME, digest([file])[file.name], {"items": items, "reviews": reviews})
