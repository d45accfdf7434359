from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.sentiment.written import file, rows
from training.sentiment.items import complaints, telling, write
from training.sentiment.reviews import read

AT = datetime(2026, 1, 2, 3, tzinfo=UTC)


def test_the_file_has_a_row_per_review_that_names_its_item(tmp_path: Path) -> None:
    """Columns and types are those the feature tables read; a review of no item is left out."""
    path = tmp_path / "reviews" / "sentiment.parquet"
    assert write(path, ["a", "", "b"], [AT] * 3, np.array([0.5, 0.1, -1.0], np.float32)) == 2
    table = pq.read_table(path)
    assert table.schema.types == [pa.string(), pa.timestamp("us", tz="UTC"), pa.float32(), pa.int64()]
    assert table.to_pydict() == {"item_id": ["a", "b"], "at": [AT, AT], "value": [0.5, -1.0], "reviews": [1, 1]}


@pytest.mark.parametrize("value", [1.5, np.nan])
def test_a_value_out_of_bounds_is_refused(tmp_path: Path, value: float) -> None:
    """And so is a file none of whose reviews names an item."""
    with pytest.raises(ValueError, match="value: must be from -1 to 1"):
        write(tmp_path / "s.parquet", ["a"], [AT], np.array([value], np.float32))
    with pytest.raises(ValueError, match="Clothing ID: no review names its item"):
        write(tmp_path / "s.parquet", [""], [AT], np.array([0.0], np.float32))


def test_telling_terms_are_those_of_one_side() -> None:
    """Equal counts tell nothing, and the sides mirror each other."""
    ours, others = np.array([9.0, 5.0, 1.0]), np.array([1.0, 5.0, 9.0])
    z = telling(ours, others, ours + others)
    assert z[0] > 1.5
    assert z[1] == pytest.approx(0.0)
    np.testing.assert_allclose(z, -telling(others, ours, ours + others))


def test_complaints_name_what_is_wrong(tmp_path: Path) -> None:
    """Among the most telling terms of negative reviews are words that only those use, with their counts."""
    found = read(file(tmp_path / "r.csv", rows(200)))
    told = complaints(found, found.classes == 0, found.departments)
    assert {one.category for one in told} == {"Tops"}
    by_term = {one.term: one for one in told}
    assert {"awful", "poor"} & set(by_term)
    assert all(one.others == 0 for one in told if one.term in ("awful", "poor", "cheap"))
    assert told == sorted(told, key=lambda one: -one.z)
    assert complaints(found, np.zeros(200, bool), found.departments) == []
