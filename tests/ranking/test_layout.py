"""Where everything lies under the state directory."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from ranking.layout import Layout

HOME = Path("/nowhere/longtail")


def places() -> dict[str, Path]:
    layout = Layout(HOME)
    derived = {name: getattr(layout, name) for name, value in vars(Layout).items() if isinstance(value, property)}
    return derived | {"canonical": layout.canonical("completejourney")}


def test_everything_lies_inside_and_nothing_is_made() -> None:
    """Each place is under the home, apart from the others, and naming it does not create it."""
    assert [f.name for f in fields(Layout)] == ["home"]
    found = places()
    assert len(set(found.values())) == len(found)
    for path in found.values():
        assert path.is_relative_to(HOME)
        assert path != HOME
    assert not HOME.exists()


def test_the_pointer_lies_in_the_release_store() -> None:
    """The pointer is flipped by a rename, so it shares its directory's filesystem with the releases."""
    found = places()
    assert found["pointer"].parent == found["releases"]
