"""Data sources by name: each turns somebody's files into the canonical tables, and is the only one to know those files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from ranking.errors import UnknownName
from ranking.layout import Layout
from training.progress import Bar
from training.sources.canonical import problems
from training.sources.files import digest
from training.stage import CORE, Staged, stage

SOURCES = {
    "completejourney": "training.sources.completejourney",
    "esci": "training.sources.esci",
    "clothing_reviews": "training.sources.clothing_reviews",
    "imbalanced_shop": "training.sources.imbalanced_shop",
    "online_shoppers": "training.sources.online_shoppers",
    "own": "training.sources.own",
}
DEFAULT = "completejourney"
_SHARED = tuple(Path(__file__).with_name(name) for name in ("canonical.py", "files.py", "kinds.py"))


class Source(Protocol):
    """What the module of a source offers that comes with a package or is generated."""

    __file__: str

    def version(self) -> str:
        """Changes whenever the source's data do."""

    def write_tables(self, out: Path) -> None:
        """Write the canonical tables and `meta.json` into the existing directory `out`."""


class FileSource(Protocol):
    """What the module of a source offers that reads files of the user's."""

    __file__: str
    WANTED: str  # what its path must name, for people

    def files(self, path: Path) -> tuple[Path, ...]:
        """The files it reads, given a path; FileNotFoundError names what is not there."""

    def write_tables(self, out: Path, path: Path) -> None:
        """Write the canonical tables and `meta.json` into the existing directory `out`. ValueError names the file and what is wrong."""


def source(name: str) -> Source | FileSource:
    """The source of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in SOURCES:
        raise UnknownName("source", name, list(SOURCES))
    return cast("Source | FileSource", importlib.import_module(SOURCES[name]))


def prepare(layout: Layout, name: str = DEFAULT, path: Path | None = None) -> Staged:
    """Canonical tables of a source under `layout.canonical(name)`, made unless they are there.

    Args:
        layout: the state directory.
        name: of the source.
        path: the user's files, for sources that read such; nothing of them is copied but what the tables say.

    Raises:
        UnknownName: there is no such source.
        ValueError: the source wants a path and got none, or the other way round; or the files are not what they should be: all rules
            of the canonical tables that they break, at once.
        FileNotFoundError: a file is not there.
    """
    chosen = source(name)
    if not hasattr(chosen, "WANTED"):
        if path is not None:
            raise ValueError(f"--path: source {name!r} brings its own data and reads no files")
        inputs = {"source": name, "version": chosen.version()}
        return stage(layout.canonical(name), inputs, chosen.write_tables, code=[Path(chosen.__file__), *_SHARED, *CORE])
    reader = cast(FileSource, chosen)
    if path is None:
        raise ValueError(f"source {name!r} reads files of yours: say where with --path, {reader.WANTED}")

    def build(out: Path) -> None:
        with Bar(f"{name} to canonical tables, and checking them", 2) as bar:
            reader.write_tables(out, path)
            bar.advance()
            wrong = problems(out)
            bar.advance()
        if wrong:
            raise ValueError("\n".join([f"{path}: not canonical tables", *(f"  {line}" for line in wrong)]))

    return stage(
        layout.canonical(name),
        {"source": name, "files": digest(reader.files(path))},
        build,
        code=[Path(reader.__file__), *_SHARED, *CORE],
    )


def of_features(layout: Layout, name: str = "") -> str:
    """The source that feature tables are computed of, asked before any work.

    Args:
        layout: the state directory.
        name: the one wanted; empty: the default one, unless only others were prepared here.

    Raises:
        ValueError: they cannot be computed of it, or nobody said that they are not to be of what was prepared.
    """
    others = [other for other in SOURCES if other != DEFAULT and layout.canonical(other).exists()]
    if name and name != DEFAULT:
        raise ValueError(f"--source: features are computed of {DEFAULT} only: {name} has not its weeks, baskets and promotions")
    if not name and others and not layout.canonical(DEFAULT).exists():
        prepared = ", ".join(str(layout.canonical(other)) for other in others)
        raise ValueError(f"{prepared}: no features can be computed of it, only of {DEFAULT}; if that is wanted, say --source {DEFAULT}")
    return DEFAULT
