from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.training.sentiment.written import file, rows
from training.sentiment.reviews import read


def test_classes_follow_the_stars(tmp_path: Path) -> None:
    """1 and 2 stars are negative, 3 neutral, 4 and 5 positive; what is not said is empty."""
    found = read(file(tmp_path / "r.csv", [row | {"Rating": str(1 + i)} for i, row in enumerate(rows(5))], leave_out="Class Name"))
    assert found.classes.tolist() == [0, 0, 1, 2, 2]
    assert found.kinds == ("",) * 5
    assert found.times[0] == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("column", ["Title", "Review Text", "Rating", "Recommended IND"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    """The message names the column that is missing and those that are there."""
    with pytest.raises(ValueError, match=rf"r\.csv: no column {column}; it has Clothing ID"):
        read(file(tmp_path / "r.csv", rows(3), leave_out=column))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("Rating", "6", r"Rating: must be 1 to 5 stars, is 6(\.0)? in row 2"),
        ("Rating", "", "Rating: must be 1 to 5 stars, is None in row 2"),
        ("Rating", "good", "Rating: must be DOUBLE, is 'good' in row 2"),
        ("Recommended IND", "2", "Recommended IND: must be 0 or 1, is 2 in row 2"),
        ("Recommended IND", "yes", "Recommended IND: must be BIGINT, is 'yes' in row 2"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_row(tmp_path: Path, column: str, value: str, said: str) -> None:
    """The message names file, column, value and row."""
    found = rows(4)
    found[1][column] = value
    with pytest.raises(ValueError, match=said):
        read(file(tmp_path / "r.csv", found))


def test_a_file_without_words_or_no_file_is_refused(tmp_path: Path) -> None:
    """Nothing to read is an error, not an empty answer."""
    with pytest.raises(ValueError, match="no review has a Title or a Review Text"):
        read(file(tmp_path / "r.csv", [row | {"Title": "", "Review Text": ""} for row in rows(3)]))
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read(tmp_path / "none.csv")
