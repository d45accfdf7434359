"""Data sources by name: each turns somebody's files into the canonical tables, and is the only one to know those files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from ranking.errors import UnknownName
from ranking.layout import Layout
from training.stage import CORE, Staged, stage

SOURCES = {"completejourney": "training.sources.completejourney"}
DEFAULT = "completejourney"


class Source(Protocol):
    """What a source's module offers."""

    __file__: str

    def version(self) -> str:
        """Changes whenever the source's data do."""

    def write_tables(self, out: Path) -> None:
        """Write the canonical tables and `meta.json` into the existing directory `out`."""


def source(name: str) -> Source:
    """The source of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in SOURCES:
        raise UnknownName("source", name, list(SOURCES))
    return cast(Source, importlib.import_module(SOURCES[name]))


def prepare(layout: Layout, name: str = DEFAULT) -> Staged:
    """Canonical tables of a source under `layout.canonical(name)`, made unless they are there."""
    chosen = source(name)
    return stage(
        layout.canonical(name), {"source": name, "version": chosen.version()}, chosen.write_tables, code=[Path(chosen.__file__), *CORE]
    )
