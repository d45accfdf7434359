"""Rows leave a Parquet file, and nothing else of it changes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.privacy.parquet import without


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30), st.sets(st.sampled_from("abc")), st.integers(1, 7))
def test_exactly_the_named_rows_go(tmp_path_factory: pytest.TempPathFactory, users: list[str | None], gone: set[str], group: int) -> None:
    """For all columns and all names: the others stay in order with their schema, nulls too, and the count is right."""
    path = tmp_path_factory.mktemp("p") / "f.parquet"
    table = pa.table({"user": pa.array(users, pa.string()), "n": range(len(users)), "list": [[1.0, float(i)] for i in range(len(users))]})
    pq.write_table(table, path, row_group_size=group)
    kept = [i for i, user in enumerate(users) if user not in gone]
    assert without(path, "user", gone) == len(users) - len(kept)
    read = pq.read_table(path)
    assert read.schema.equals(table.schema)
    assert read["n"].to_pylist() == kept
    assert [p.name for p in path.parent.iterdir()] == ["f.parquet"]


@pytest.mark.parametrize("users", [[], ["a", "a"]])
def test_a_file_of_a_log_that_keeps_no_row_goes(tmp_path: Path, users: list[str]) -> None:
    """One that had none before goes as well; one that keeps a row stays, and a table stays in any case."""
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"user": pa.array(users, pa.string())}), path)
    assert without(path, "user", {"b"}) == 0
    assert without(path, "user", {"b"}, empty=False) == 0
    assert path.exists() == bool(users)
    pq.write_table(pa.table({"user": pa.array(users, pa.string())}), path)
    assert without(path, "user", {"a"}, empty=False) == len(users)
    assert list(tmp_path.iterdir()) == []
    pq.write_table(pa.table({"user": pa.array([*users, "b"], pa.string())}), path)
    assert without(path, "user", {"a"}, empty=False) == len(users)
    assert without(path, "user", {"b"}) == 1
    assert pq.read_table(path).num_rows == 0


def test_a_file_without_such_rows_is_not_written(tmp_path: Path) -> None:
    """It is the very file that was there."""
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"user": ["a"]}), path)
    before = path.stat().st_ino
    assert without(path, "user", {"b"}) == 0
    assert path.stat().st_ino == before


def test_what_cannot_be_is_named(tmp_path: Path) -> None:
    """A file rotated away has no rows to remove; one without the column is an error that names both."""
    assert without(tmp_path / "gone.parquet", "user", {"a"}) == 0
    pq.write_table(pa.table({"n": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet: has no column user"):
        without(tmp_path / "other.parquet", "user", {"a"})
