"""Reviews as a file holds them: the columns of the clothing reviews, checked. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.sources.clothing_reviews import FILE
from training.sources.files import find, reading, refuse, view
from training.sources.kinds import Kind

CLASSES = ("negative", "neutral", "positive")
WANTED = f"{FILE}, or a CSV file with its columns"
_NEEDED: dict[str, Kind] = {"Title": "text", "Review Text": "text", "Rating": "number", "Recommended IND": "integer"}
_USED: dict[str, Kind] = {"Clothing ID": "text", "Department Name": "text", "Class Name": "text", "Date": "instant"}


@dataclass(frozen=True, slots=True)
class Reviews:
    """Reviews; one without a word is read as well, and then says what reviews mostly say.

    Attributes:
        titles: (n,) empty where there is none.
        texts: (n,) likewise.
        ratings: (n,) int64 stars, 1 to 5.
        recommended: (n,) int8, 1: the buyer recommends the piece.
        items: (n,) id of the piece; empty where the file says none.
        departments: (n,) likewise.
        kinds: (n,) the piece's class (Dresses, Knits …), likewise.
        times: (n,) when it was written, UTC; the start of 1970 where the file says nothing of time.
    """

    titles: Sequence[str]
    texts: Sequence[str]
    ratings: NDArray[np.int64]
    recommended: NDArray[np.int8]
    items: Sequence[str]
    departments: Sequence[str]
    kinds: Sequence[str]
    times: Sequence[datetime]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def classes(self) -> NDArray[np.int64]:
        """(n,) 0 negative (1 or 2 stars), 1 neutral (3), 2 positive (4 or 5)."""
        return np.digitize(self.ratings, [3, 4])

    def take(self, rows: NDArray[np.int64]) -> Reviews:
        """These reviews, in this order."""

        def chosen(values: Sequence[Any]) -> list[Any]:
            return [values[i] for i in rows]

        return Reviews(
            chosen(self.titles),
            chosen(self.texts),
            self.ratings[rows],
            self.recommended[rows],
            chosen(self.items),
            chosen(self.departments),
            chosen(self.kinds),
            chosen(self.times),
        )


def read(path: Path) -> Reviews:
    """The reviews of a file, or of the shared file in a folder, in its order.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: a column is missing, or naming the column and row of a value that cannot be.
    """
    file = find(path, FILE)
    with TemporaryDirectory() as spill, reading(Path(spill), file) as db:
        refuse(file, view(db, "raw", file, _NEEDED, _NEEDED | _USED))
        has = {str(row[0]) for row in db.execute("SELECT column_name FROM (DESCRIBE raw)").fetchall()}

        def optional(column: str, otherwise: str) -> str:
            return f'coalesce("{column}", {otherwise})' if column in has else otherwise

        rows = db.execute(f"""
            SELECT row_number() OVER () AS place, coalesce("Title", ''), coalesce("Review Text", ''), "Rating", "Recommended IND",
                   {optional("Clothing ID", "''")}, {optional("Department Name", "''")}, {optional("Class Name", "''")},
                   {optional("Date", "TIMESTAMPTZ '1970-01-01 00:00:00+00'")}
            FROM raw""").fetchall()
    for place, _, _, rating, recommended, *_ in rows:
        if rating is None or rating not in (1, 2, 3, 4, 5):
            raise ValueError(f"{file}: Rating: must be 1 to 5 stars, is {rating} in row {place}")
        if recommended not in (0, 1):
            raise ValueError(f"{file}: Recommended IND: must be 0 or 1, is {recommended} in row {place}")
    if not any(row[1].strip() or row[2].strip() for row in rows):
        raise ValueError(f"{file}: no review has a Title or a Review Text")
    titles, texts, ratings, recommended, items, departments, kinds, times = zip(*(row[1:] for row in rows), strict=True)
    return Reviews(
        titles,
        texts,
        np.array(ratings, np.int64),
        np.array(recommended, np.int8),
        items,
        departments,
        kinds,
        [time.astimezone(UTC) for time in times],
    )
