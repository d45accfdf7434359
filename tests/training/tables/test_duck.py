"""Work side by side on one database."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from training.tables.duck import connect, together


def _noon(db: duckdb.DuckDBPyConnection) -> str:
    row = db.execute("SELECT strftime(TIMESTAMPTZ '2017-07-01 12:00:00+00', '%H') || (SELECT count(*) FROM known)").fetchone()
    assert row is not None
    return str(row[0])


def test_parts_see_the_same_tables_in_utc_and_answer_in_order(tmp_path: Path) -> None:
    """Each part has a connection of its own, with the database's tables and our time zone; results come in the parts' order."""
    with connect(tmp_path) as db:
        db.execute("CREATE TABLE known AS SELECT 1 AS x UNION ALL SELECT 2")
        assert together(db, _noon, lambda own: own is db, lambda own: own.execute("CREATE TABLE made AS SELECT 7 AS x").fetchall()) == [
            "122",
            False,
            [(1,)],
        ]
        assert db.execute("SELECT x FROM made").fetchall() == [(7,)]


def test_a_part_that_fails_is_an_error_after_all_have_ended(tmp_path: Path) -> None:
    """What the others did is done, and the error is the failing part's."""
    with connect(tmp_path) as db:
        with pytest.raises(duckdb.CatalogException, match="nowhere"):
            together(db, lambda own: own.execute("FROM nowhere"), lambda own: own.execute("CREATE TABLE done AS SELECT 1 AS x"))
        assert db.execute("SELECT x FROM done").fetchall() == [(1,)]
