"""A made-up shop of things in colours, what people asked there, and an encoder that knows words only by their letters."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.relevance.catalogue import Catalogue
from training.relevance.encoder import States
from training.relevance.judged import Lists, lists_of
from training.sources.esci import GAINS, JUDGMENTS, PRODUCTS

THINGS = ("mug", "lamp", "belt", "chair")
COLOURS = ("red", "blue", "green", "white")
EXTRAS = ("handle", "logo")
WIDTH = 16


def products() -> list[dict[str, object]]:
    """One product for every thing, colour and extra or none."""
    out: list[dict[str, object]] = []
    for thing in THINGS:
        for colour in COLOURS:
            for extra in ("", *EXTRAS):
                n = len(out)
                title = f"{colour} {thing}" + (f" with {extra}" if extra else "")
                row = {"asin": f"P{n}", "title": title, "brand": f"Maker{n % 5}", "color": colour, "category": ["Home", f"{thing}s"]}
                numbers = {"price": None if n % 3 else 5.0 + n, "rating": 1.0 + n % 5, "rating_count": None if n % 7 == 0 else n}
                out.append(row | numbers | {"description": "", "bullet_points": f"A {thing}. It is {colour}."})
    return out


def judgments() -> dict[str, list[tuple[str, str]]]:
    """(product, label) by query: the thing in the colour is exact, the thing substitutes; a query without an extra refuses it."""
    out: dict[str, list[tuple[str, str]]] = {}
    for thing in THINGS:
        for colour in COLOURS[:3]:
            for cut in ("", *EXTRAS[:1]):
                rows = []
                for n, row in enumerate(products()):
                    title = str(row["title"]).split()
                    if thing in title or n % 6 == 0:
                        exact = thing in title and colour in title and not (cut and cut in title)
                        rows.append((str(row["asin"]), "E" if exact else "S" if thing in title else "I"))
                out[f"{colour} {thing}" + (f" without {cut}" if cut else "")] = rows
    return out


def write(folder: Path) -> None:
    """The shop's two files."""
    with gzip.open(folder / PRODUCTS, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in products())
    lines = [f"{q},{asin},{label},{GAINS[label]}" for q, rows in judgments().items() for asin, label in rows]
    (folder / JUDGMENTS).write_text("\n".join(["query,asin,esci_label,gain", *lines]) + "\n")


def lists(catalogue: Catalogue) -> Lists:
    """The judged lists."""
    return lists_of({q: [(catalogue.rows[asin], GAINS[label]) for asin, label in rows] for q, rows in judgments().items()})


class Letters:
    """A reader whose token states are fixed random vectors, one per word; nothing above them changes anything."""

    def lower(self, texts: Sequence[str]) -> States:
        framed = [["[", *text.lower().split(), "]"] for text in texts]
        ids = [int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "big") for text in framed for word in text]
        values = np.array([np.random.default_rng(i).normal(size=WIDTH) for i in ids], np.float16)
        return States(values, np.concatenate([[0], np.cumsum([len(text) for text in framed])]).astype(np.int64))

    def upper(self) -> nn.Module:
        return _Same()


class _Same(nn.Module):
    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return states
