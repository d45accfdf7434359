"""Shopping Queries (ESCI, Reddy et al. 2022): products, and how well each suits a query, from two files named by their folder.

`products.jsonl.gz`: one JSON object per line with `asin`, `title`, `brand`, `category` (a path, as a list) and `rating_count` (null: never
rated). `judgments.csv`: `query`, `asin`, `gain`, one judged pair per line. Knows nothing of rankers, and takes no path for granted.
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

PRODUCTS, JUDGMENTS = "products.jsonl.gz", "judgments.csv"


@dataclass(frozen=True, slots=True)
class Product:
    """What the catalogue says of one product."""

    text: str  # title, brand and category in words
    rating_count: int  # 0: nobody has rated it yet


@dataclass(frozen=True, slots=True)
class Judged:
    """One query with the products somebody judged, in the order of the file."""

    query: str
    products: tuple[str, ...]
    gains: tuple[float, ...]


def products(folder: Path) -> dict[str, Product]:
    """Products by their `asin`.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: naming the line that is not a product.
    """
    found = {}
    with gzip.open(_file(folder, PRODUCTS), "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                words = (row["title"], row["brand"], *(row["category"] or ()))
                found[str(row["asin"])] = Product(" ".join(str(w) for w in words if w), int(row["rating_count"] or 0))
            except (KeyError, TypeError, ValueError) as wrong:
                raise ValueError(f"{PRODUCTS} line {number}: not a product ({wrong!r})") from wrong
    return found


def judgments(folder: Path) -> list[Judged]:
    """Every query with what was judged for it, in the order in which queries first appear.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: naming the line that is not a judgment.
    """
    pairs: dict[str, list[tuple[str, float]]] = {}
    with _file(folder, JUDGMENTS).open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                gain = float(row["gain"])
                if not 0.0 <= gain <= 1.0:
                    raise ValueError(f"gain {gain} outside [0, 1]")
                pairs.setdefault(row["query"], []).append((row["asin"], gain))
            except (KeyError, TypeError, ValueError) as wrong:
                raise ValueError(f"{JUDGMENTS} line {number}: not a judgment ({wrong!r})") from wrong
    return [Judged(query, tuple(a for a, _ in rows), tuple(g for _, g in rows)) for query, rows in pairs.items()]


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; the folder of the ESCI files holds {PRODUCTS} and {JUDGMENTS}")
    return path
