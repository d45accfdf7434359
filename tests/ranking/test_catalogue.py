"""The catalogue names every declared feature once, with what is declared of it."""

from __future__ import annotations

from typer.testing import CliRunner

from cli import app
from ranking.catalogue import markdown
from ranking.features import ALL_VIEWS, DERIVED, MODEL_COLUMNS, REQUEST_COLUMNS, SIDE_DERIVED, VIEWS


def _rows() -> list[list[str]]:
    text = markdown()
    lines = [line for line in text[text.index("## Features of users") :].splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").replace("\\|", "¦").split(" | ")] for line in lines]


def test_every_feature_stands_there_once() -> None:
    """One row per feature of a view, request column and derived feature, all rows as wide as the head."""
    rows = _rows()
    declared = [(f.name, v.name) for v in ALL_VIEWS for f in v] + [(f.name, "") for f in (*REQUEST_COLUMNS, *DERIVED, *SIDE_DERIVED)]
    assert sorted((row[0].strip("`"), row[1]) for row in rows) == sorted(declared)
    assert {len(row) for row in rows} == {9}


def test_every_view_is_described() -> None:
    """Whose it is, its lifetime (what lives for good says how Feast puts that), who fills it, and its description in full."""
    text = markdown()
    lines = text[text.index("## Views") : text.index("## Features of users")].splitlines()
    rows = {cells[0].strip("`"): cells[1:] for line in lines if line.startswith("| `") for cells in [line.strip("| ").split(" | ")]}
    assert {name: row[-1] for name, row in rows.items()} == {view.name: view.description for view in ALL_VIEWS}
    assert rows["user_session"][:4] == ["user", "1 day", "behaviour", "events"]
    assert rows["item_statistics"][:4] == ["item", "14 days", "behaviour", "batch and events"]
    assert rows["item_profile"][:4] == ["item", "for good", "catalogue", "batch"]
    assert "3,650 days" in lines[-2]


def test_a_row_says_what_is_declared() -> None:
    """Type, unit, default, lifetime, owner, whether models read it, and the description."""
    rows = {row[0].strip("`"): row for row in _rows()}
    view = next(v for v in VIEWS if v.name == "user_behaviour")
    days = next(f for f in view if f.name == "days_since_order")
    assert rows["days_since_order"] == [
        "`days_since_order`",
        view.name,
        "float32",
        days.unit,
        "999",
        "14 days",
        view.owner,
        "yes",
        days.description,
    ]
    assert {name for name, row in rows.items() if row[7] == "yes"} == set(MODEL_COLUMNS)
    assert rows["title"][4:6] == ["empty", "for good"]


def test_the_command_prints_it() -> None:
    """`longtail features docs`, whole lines whatever the width of the terminal."""
    result = CliRunner().invoke(app, ["features", "docs"])
    assert result.exit_code == 0
    assert result.stdout.strip() == markdown()
