from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from training.sources.online_shoppers import column

CanonicalOf = Callable[[str], Path]


def test_a_piece_is_filed_where_most_reviews_file_it(canonical_of: CanonicalOf) -> None:
    """Two of three reviews call piece 7 a knit; piece 8 is filed nowhere."""
    rows = duckdb.sql(
        f"SELECT item_id, category, category_path FROM '{canonical_of('clothing_reviews')}/items.parquet' ORDER BY 1"
    ).fetchall()
    assert rows == [("7", "Knits", "General > Tops > Knits"), ("8", "", "")]


def test_review_texts_survive_quotes_and_line_breaks(canonical_of: CanonicalOf) -> None:
    """A text is what was written, empty where nothing was."""
    rows = duckdb.sql(f"SELECT text, recommended FROM '{canonical_of('clothing_reviews')}/reviews.parquet' ORDER BY votes DESC, age DESC")
    assert rows.fetchall() == [('Lovely, "soft" and\nlight', 1), ("Fits well", 1), ("", 0), ("Too small", 0)]


def test_session_columns_read_as_words(canonical_of: CanonicalOf) -> None:
    """Numbers are numbers, categories text, the label 0 or 1."""
    assert column("ProductRelated_Duration") == "product_related_duration"
    file = canonical_of("online_shoppers") / "sessions.parquet"
    rows = duckdb.sql(f"SELECT page_values, operating_systems, weekend, label FROM '{file}' ORDER BY session_id").fetchall()
    assert rows == [(1.0, "1", "false", 0), (2.5, "2", "true", 1)]
