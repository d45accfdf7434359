from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.training.sources import tiny
from training.sources import esci

CanonicalOf = Callable[[str], Path]


def test_official_files_give_the_english_part(canonical_of: CanonicalOf) -> None:
    """Gains are the paper's four; a product of the same id in another language is another product, and left out."""
    folder = canonical_of("esci, official files")
    rows = duckdb.sql(f"SELECT query, item_id, gain, small, split FROM '{folder}/judgments.parquet' ORDER BY item_id").fetchall()
    assert rows == [("towel", f"P{i}", gain, i % 2 == 1, "train") for i, gain in enumerate((1.0, 0.1, 0.01, 0.0))]
    assert duckdb.sql(f"SELECT title FROM '{folder}/items.parquet' WHERE item_id = 'P0'").fetchall() == [("word 0",)]


def test_half_of_the_official_files_is_not_enough(tmp_path: Path) -> None:
    """The error names the file that is missing."""
    tiny.esci_official(tmp_path)
    (tmp_path / esci.OFFICIAL_PRODUCTS).unlink()
    with pytest.raises(FileNotFoundError, match=esci.OFFICIAL_PRODUCTS):
        esci.files(tmp_path)


def test_a_part_of_the_catalogue_keeps_what_it_says(canonical_of: CanonicalOf) -> None:
    """Category paths are joined, and what a product does not say is empty or NULL."""
    rows = duckdb.sql(
        f"SELECT item_id, category, category_path, brand, price, rating_count FROM '{canonical_of('esci')}/items.parquet' ORDER BY 1"
    ).fetchall()
    assert rows == [("A1", "Bath", "Home > Bath", "Soft", 3.5, 9), ("A2", "", "", "", None, 0)]
