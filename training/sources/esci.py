"""Shopping Queries (ESCI, Reddy et al. 2022): products, and how well each suits a query. Knows nothing of rankers.

Read from a folder, in either of two forms:

* the official files, `shopping_queries_dataset_products.parquet` and `…_examples.parquet`, of which the English part (``us``) is taken;
* a part of the catalogue: `products.jsonl.gz`, one JSON object per line with `asin`, `title`, `brand`, `category` (a path, as a list)
  and `rating_count` (null: never rated); `judgments.csv`: `query`, `asin`, `gain`, one judged pair per line.

Tables written: ``items``, with ``description``, ``color`` and, where the files have them, ``image``, ``rating`` and ``rating_count``;
``judgments``. Gains are the paper's for ranking: Exact 1, Substitute .1, Complement .01, Irrelevant 0.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from training.sources.files import digest, reading, view, write_items, write_meta
from training.tables.duck import write

NAME = "esci"
PRODUCTS, JUDGMENTS = "products.jsonl.gz", "judgments.csv"
OFFICIAL_PRODUCTS, OFFICIAL_EXAMPLES = "shopping_queries_dataset_products.parquet", "shopping_queries_dataset_examples.parquet"
WANTED = f"the folder of {OFFICIAL_PRODUCTS} and {OFFICIAL_EXAMPLES}, or of {PRODUCTS} and {JUDGMENTS}"
GAINS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}


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
    for row in _catalogue(folder):
        words = (row["title"], row["brand"], *row["category"])
        found[row["asin"]] = Product(" ".join(str(w) for w in words if w), row["rating_count"])
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


def read_items(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of the canonical table ``items`` from a file like `products.jsonl.gz`.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: naming the file and the line that is not a product.
    """
    return map(_item, _records(file))


def files(path: Path) -> tuple[Path, ...]:
    """The two files of the form that the folder holds.

    Raises:
        FileNotFoundError: it holds neither.
    """
    if any((path / name).exists() for name in (OFFICIAL_PRODUCTS, OFFICIAL_EXAMPLES)):
        for name in (OFFICIAL_PRODUCTS, OFFICIAL_EXAMPLES):
            if not (path / name).exists():
                raise FileNotFoundError(f"{path / name}: not there; --path must name {WANTED}")
        return path / OFFICIAL_PRODUCTS, path / OFFICIAL_EXAMPLES
    return _file(path, PRODUCTS), _file(path, JUDGMENTS)


def write_tables(out: Path, path: Path) -> None:
    """Write ``items``, ``judgments`` and ``meta.json`` into `out`.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file does not hold what it should, or judges a product it does not have.
    """
    catalogue, judged = files(path)
    with reading(out, judged) as db:
        if catalogue.name == OFFICIAL_PRODUCTS:
            text = ("product_title", "product_description", "product_bullet_point", "product_brand", "product_color")
            view(db, "raw_products", catalogue, ("product_id", "product_locale", *text))
            view(db, "raw_examples", judged, ("query", "product_id", "product_locale", "esci_label", "small_version", "split"))
            items = write_items(
                db,
                """
                SELECT product_id AS item_id, coalesce(product_title, '') AS title, '' AS category, '' AS category_path,
                       coalesce(product_brand, '') AS brand, concat_ws(' ', product_description, product_bullet_point) AS description,
                       coalesce(product_color, '') AS color
                FROM raw_products WHERE product_locale = 'us'""",
                out,
            )
            cases = " ".join(f"WHEN '{label}' THEN {gain}" for label, gain in GAINS.items())
            pairs = f"""
                SELECT query, product_id AS item_id, max(CASE esci_label {cases} END)::DOUBLE AS gain,
                       bool_or(small_version = 1) AS small, any_value(split) AS split
                FROM raw_examples WHERE product_locale = 'us' GROUP BY ALL ORDER BY query, item_id"""
        else:
            db.register("raw_products", pa.Table.from_pylist(list(read_items(_file(path, PRODUCTS))), schema=_ITEMS))
            items = write_items(db, "FROM raw_products", out)
            rows = [(j.query, a, g) for j in judgments(path) for a, g in zip(j.products, j.gains, strict=True)]
            columns = [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), (pa.string(), pa.string(), pa.float64()), strict=False)]
            if not columns:
                raise ValueError(f"{judged}: no judgment")
            db.register("raw_judgments", pa.table(columns, names=["query", "item_id", "gain"]))
            pairs = "FROM raw_judgments"
        unknown = db.execute(f"SELECT item_id FROM ({pairs}) ANTI JOIN source_items USING (item_id) LIMIT 1").fetchone()
        if unknown is not None:
            raise ValueError(f"{judged}: product {unknown[0]!r} is not in {catalogue.name}")
        count = write(db, pairs, out / "judgments.parquet")
    version = "-".join(digest([catalogue, judged]).values())
    write_meta(out, NAME, version, {"items": items, "judgments": count})


_ITEMS = pa.schema(
    [(name, pa.string()) for name in ("item_id", "title", "category", "category_path", "brand", "description", "color", "image")]
    + [("price", pa.float64()), ("rating", pa.float64()), ("rating_count", pa.int64())]
)


def _item(row: dict[str, Any]) -> dict[str, Any]:
    described = " ".join(str(row[name]) for name in ("description", "bullet_points") if row.get(name))
    text = {name: str(row.get(name) or "") for name in ("title", "brand", "color", "image")}
    path = [str(part) for part in row["category"]]
    return text | {
        "item_id": row["asin"],
        "category": path[-1] if path else "",
        "category_path": " > ".join(path),
        "description": described,
        "price": row.get("price"),
        "rating": row.get("rating"),
        "rating_count": row["rating_count"],
    }


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """Each line of a file of products, with what every product must say.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: naming the line that is not a product.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: not there; wanted products, one JSON object per line, gzipped")
    number = 0
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):  # noqa: B007 (the handler says where it went wrong)
                row = json.loads(line)
                needed = {"title": row["title"], "brand": row["brand"], "category": tuple(row["category"] or ())}
                yield row | needed | {"asin": str(row["asin"]), "rating_count": _whole(row["rating_count"] or 0)}
        except (KeyError, TypeError, ValueError) as wrong:
            raise ValueError(f"{file.name} line {number}: not a product ({wrong!r})") from wrong
        except (EOFError, zlib.error, gzip.BadGzipFile) as wrong:
            raise ValueError(f"{file}: damaged after line {number} ({wrong})") from wrong


def _catalogue(folder: Path) -> Iterator[dict[str, Any]]:
    return _records(_file(folder, PRODUCTS))


def _whole(count: Any) -> int:
    if int(count) != float(count):
        raise ValueError(f"{count} is no whole number")
    return int(count)


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; the folder of the ESCI files holds {PRODUCTS} and {JUDGMENTS}")
    return path
