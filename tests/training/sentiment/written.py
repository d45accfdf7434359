"""Reviews that were made up: their words say what their stars say, now and then."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

COLUMNS = ("Clothing ID", "Title", "Review Text", "Rating", "Recommended IND", "Department Name", "Class Name")
_BAD, _MIDDLING, _GOOD = (
    ("awful cheap fabric returned", "poor fit too small"),
    ("okay but thin", "average not bad"),
    ("lovely soft great", "perfect fit"),
)


def rows(count: int = 120, *, seed: int = 0) -> list[dict[str, str]]:
    """As a file has them: one in six negative, one in six neutral."""
    rng, out = np.random.default_rng(seed), []
    for i in range(count):
        stars = int(rng.choice([1, 2, 3, 4, 5], p=[0.08, 0.08, 0.16, 0.2, 0.48]))
        words = _BAD if stars < 3 else _MIDDLING if stars == 3 else _GOOD
        text = f"{words[i % 2]} {rng.choice(['dress', 'shirt', 'coat'])} number {i % 7}"
        out.append(
            dict(
                zip(
                    COLUMNS,
                    (str(i % 9), "" if i % 3 else words[0].split()[0], text, str(stars), str(int(stars > 2)), "Tops", "Knits"),
                    strict=True,
                )
            )
        )
    return out


def file(path: Path, found: list[dict[str, str]], *, leave_out: str = "") -> Path:
    """Write a CSV, without a column if one is named."""
    columns = [c for c in COLUMNS if c != leave_out]
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)
    return path
