"""A stage of training: a directory made from inputs, made again only when the inputs changed.

A stage is finished when its directory stands under its final name: it is built beside it and renamed, so a half-written stage is
never mistaken for a whole one. This module knows nothing of what a stage contains.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAMP = "stage.json"
ROOT = Path(__file__).parents[1]
CORE = tuple((ROOT / "ranking" / f"{name}.py") for name in ("types", "features", "aggregates", "text", "assemble"))
"""Code of the core that feature values and training rows depend on: part of the key of every stage that makes them."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A finished stage.

    Attributes:
        path: its directory.
        key: 32 hex digits over its inputs; goes into the inputs of the stages that build on it.
        reused: nothing was built: a directory with this key was there.
    """

    path: Path
    key: str
    reused: bool


def source_files(*places: str) -> list[Path]:
    """Source files by place from the repository's root: `training/dataset.py` is itself, `training/lists` all modules below it."""
    return [file for place in places for file in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))]


def key_of(inputs: Mapping[str, Any], code: Iterable[Path] = ()) -> str:
    """32 hex digits over the inputs (anything JSON can say) and the text of the files that turn them into the stage."""
    digest = hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=16)
    for path in sorted(code):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def stage(
    target: Path, inputs: Mapping[str, Any], build: Callable[[Path], None], *, code: Iterable[Path] = (), anew: bool = False
) -> Staged:
    """Build the stage unless it is there with the same key.

    Args:
        target: the stage's directory; whatever an older key left there is replaced.
        inputs: parameters, versions and upstream keys.
        build: fills the empty directory it is given; what it raises passes through and leaves `target` as it was. It may read `target`.
        code: source files whose text is part of the key.
        anew: build in any case.
    """
    key = key_of(inputs, code)
    if not anew and _stamped(target) == key:
        return Staged(target, key, reused=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    building = target.with_name(f".{target.name}.building.{os.getpid()}")
    building.mkdir()
    try:
        build(building)
        (building / STAMP).write_text(json.dumps({"key": key, "inputs": inputs}, sort_keys=True, indent=1))
        _replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Staged(target, key, reused=False)


def _stamped(target: Path) -> str | None:
    try:
        return str(json.loads((target / STAMP).read_text())["key"])
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError, TypeError):
        return None  # no stage, or one whose stamp cannot be trusted: build


def _replace(building: Path, target: Path) -> None:
    """Put `building` at `target`. A crash between the two renames leaves no target, hence a rebuild, never a mixture."""
    retired = target.with_name(f".{target.name}.retired.{os.getpid()}")
    if target.exists():
        target.rename(retired)
    building.rename(target)
    shutil.rmtree(retired, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what builders that are no longer alive left beside `target`."""
    for kind in ("building", "retired"):
        for left in target.parent.glob(f".{target.name}.{kind}.*"):
            pid = left.suffix[1:]
            if pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
                shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
