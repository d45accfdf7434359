"""The feature tables say nothing of forgotten users, although the canonical tables still hold them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ranking.features import SIDE_VIEWS, USER_PROFILE, VIEWS
from ranking.layout import Layout
from services.privacy.forgotten import Forgotten
from tests.training.tables.shops import STARTS, WEEKS, write_shop
from tests.training.tables.test_growing_tables import SHOP
from training import tables
from training.stage import Staged, stage
from training.tables.forgotten import forgotten_users

GONE = "u1"
FILES = (*(view.name for view in (*VIEWS, *SIDE_VIEWS)), "history", "first_shown")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home")


def _compute(layout: Layout, week: int = WEEKS) -> Staged:
    source = stage(layout.canonical("shop"), {}, lambda out: write_shop(SHOP, out))
    return tables.compute(layout, source, first_week=2, last_week=WEEKS, until=STARTS[week - 1])


def _grown_from(layout: Layout) -> Any:
    return json.loads((layout.features / "meta.json").read_text())["grown_from"]


def _names(layout: Layout) -> list[str]:
    """Files that hold the user's id."""
    return [
        name
        for name in FILES
        if "user_id" in pq.read_schema(path := layout.features / f"{name}.parquet").names
        and GONE in pq.read_table(path, columns=["user_id"])["user_id"].to_pylist()
    ]


def test_tables_are_those_of_a_shop_where_the_user_never_was(layout: Layout, tmp_path: Path) -> None:
    """All files, items' counts and the history among them, equal those made without the user's lines; and no file of theirs has the id."""
    Forgotten(layout.forgotten).add([GONE, "somebody-else"])
    made = _compute(layout).path
    canonical, expected = tmp_path / "canonical", tmp_path / "expected"
    for folder in (canonical, expected):
        folder.mkdir()
    write_shop(replace(SHOP, lines=tuple(line for line in SHOP.lines if f"u{line.user}" != GONE)), canonical)
    tables.write_tables(canonical, expected, first_week=2, last_week=WEEKS)
    for name in FILES:
        theirs = pq.read_table(expected / f"{name}.parquet")
        if name == USER_PROFILE.name:
            theirs = theirs.filter(pc.field("user_id") != GONE)
        assert pq.read_table(made / f"{name}.parquet").equals(theirs), name
    assert _names(layout) == []
    assert f'"{GONE}"' not in (made / "stage.json").read_text()


def test_a_tombstone_makes_the_tables_anew_once(layout: Layout) -> None:
    """Rows that counted the user are not gone on from, a later run goes on from the new ones, and a stranger's changes nothing."""
    _compute(layout, WEEKS - 2)
    assert {"history", "user_behaviour", "user_profile"} <= set(_names(layout))
    Forgotten(layout.forgotten).add([GONE])
    assert not _compute(layout, WEEKS - 2).reused
    assert (_names(layout), _grown_from(layout)) == ([], None)
    Forgotten(layout.forgotten).add(["somebody-else"])
    assert _compute(layout, WEEKS - 2).reused
    assert not _compute(layout).reused
    assert (_names(layout), _grown_from(layout)) == ([], STARTS[WEEKS - 3].isoformat())


def test_who_is_forgotten_while_tables_are_made_is_in_none(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tombstone comes when the user's rows are written already."""
    write = tables.write_tables

    def interrupted(*args: Any, **options: Any) -> dict[str, float]:
        seconds = write(*args, **options)
        Forgotten(layout.forgotten).add([GONE])
        return seconds

    monkeypatch.setattr(tables, "write_tables", interrupted)
    made = _compute(layout)
    assert _names(layout) == []
    assert _compute(layout).key == made.key


def test_without_tombstones_nobody_is_left_out(layout: Layout) -> None:
    """No file, an empty one, and one that was cut short."""
    canonical = stage(layout.canonical("shop"), {}, lambda out: write_shop(SHOP, out)).path
    for text in (None, "", "0123"):
        if text is not None:
            layout.forgotten.write_text(text)
        assert forgotten_users(layout, canonical) == ()
