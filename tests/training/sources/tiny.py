"""A few rows of every source's files, in the source's own format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.training.tables.slices import write_slice
from training.sources import clothing_reviews, completejourney, esci, imbalanced_shop, online_shoppers, own

_DESCRIBED = "Division Name,Department Name,Class Name"
REVIEW_HEAD = f"review_id,Clothing ID,Age,Title,Review Text,Rating,Recommended IND,Positive Feedback Count,{_DESCRIBED}"
LABELS = {"E": 1.0, "S": 0.1, "C": 0.01, "I": 0.0}


def esci_part(folder: Path) -> None:
    rows = [
        {
            "asin": "A1",
            "title": "Blue towel",
            "brand": "Soft",
            "category": ["Home", "Bath"],
            "rating_count": 9,
            "rating": 4.5,
            "price": 3.5,
        },
        {"asin": "A2", "title": "Bath mat", "brand": None, "category": [], "rating_count": None, "rating": None, "price": None},
    ]
    with gzip.open(folder / esci.PRODUCTS, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    lines = [
        f"{q},{a},{label},{gain}" for q in ("towel", "blue mat") for a, (label, gain) in zip(("A1", "A2"), LABELS.items(), strict=False)
    ]
    (folder / esci.JUDGMENTS).write_text("\n".join(["query,asin,esci_label,gain", *lines]) + "\n")


def esci_official(folder: Path) -> None:
    text = ("product_title", "product_description", "product_bullet_point", "product_brand", "product_color")
    products = [{"product_id": f"P{i}", "product_locale": "us", **dict.fromkeys(text, f"word {i}")} for i in range(4)]
    products.append({"product_id": "P0", "product_locale": "es", **dict.fromkeys(text, "palabra")})
    pq.write_table(pa.Table.from_pylist(products), folder / esci.OFFICIAL_PRODUCTS)
    judged = [
        {"query": "towel", "product_id": f"P{i}", "product_locale": "us", "esci_label": label, "small_version": i % 2, "split": "train"}
        for i, label in enumerate(LABELS)
    ]
    judged.append(judged[0] | {"query": "toalla", "product_locale": "es"})
    pq.write_table(pa.Table.from_pylist(judged), folder / esci.OFFICIAL_EXAMPLES)


def reviews(folder: Path) -> None:
    rows = [
        '0,7,33,,"Lovely, ""soft"" and\nlight",5,1,4,General,Tops,Knits',
        "1,7,60,Meh,,2,0,0,General,Tops,Blouses",
        "2,7,41,Good,Fits well,4,1,1,General,Tops,Knits",
        "3,8,29,No,Too small,1,0,0,,,",
    ]
    with gzip.open(folder / clothing_reviews.FILE, "wt") as file:
        file.write("\n".join([REVIEW_HEAD, *rows]) + "\n")


def sessions(folder: Path) -> None:
    head = [*online_shoppers.NUMERIC, *online_shoppers.CATEGORICAL, "Revenue"]
    rows = [
        [*["1"] * 10, "Feb", "1", "1", "1", "1", "Returning_Visitor", "FALSE", "FALSE"],
        [*["2.5"] * 10, "May", "2", "1", "3", "1", "New_Visitor", "TRUE", "TRUE"],
    ]
    (folder / online_shoppers.FILE).write_text("\n".join(",".join(row) for row in [head, *rows]) + "\n")


def shop(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id,title,price,shelf\n007,Lamp,12.50,A\n8,,3,B\n")
    (folder / "users.csv").write_text("user_id\nann\n")
    (folder / "events.csv").write_text(
        "event_id,event_time,user_id,item_id,event_type\n1,2026-03-01T10:00:00+01:00,ann,007,purchase\n2,2026-03-01 10:00:00,,8,click\n"
    )


FILE_SOURCES = {
    "esci": (esci, esci_part),
    "esci, official files": (esci, esci_official),
    "clothing_reviews": (clothing_reviews, reviews),
    "online_shoppers": (online_shoppers, sessions),
    "own": (own, shop),
}


def write(name: str, raw: Path, out: Path) -> None:
    """The canonical tables of one source, from its tiny files where it reads files."""
    if name in FILE_SOURCES:
        module, fill = FILE_SOURCES[name]
        fill(raw)
        module.write_tables(out, raw)
    elif name == "completejourney":
        write_slice(raw)
        completejourney.write_tables(out, raw)
    else:
        imbalanced_shop.write_tables(out)


NAMES = ("completejourney", "imbalanced_shop", *FILE_SOURCES)
