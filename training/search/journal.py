"""What is known of a search, on disk: one file per trial that ended, one of reports per trial under way. Knows no Ray and no objective.

A trial's file is written by the process that ran it, before anybody is told: a trial that has one never runs again. The folder must be
one that all machines of the search see, as Ray Tune's own storage path must.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""A trial: ``trial`` (four digits or more), ``number``, ``config``, ``metrics`` (empty where it failed), ``error`` (empty where it did
not), ``stopped`` (by the scheduler, before its last rung), ``seconds``."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The files of one search."""

    path: Path

    def work(self, number: int) -> Path:
        """Folder of a trial's checkpoints and of what it keeps."""
        return self.path / "work" / name_of(number)

    def ended(
        self,
        number: int,
        config: Mapping[str, Any],
        metrics: Mapping[str, float] | None,
        seconds: float,
        *,
        error: str = "",
        stopped: bool = False,
    ) -> Row:
        """Write down that a trial ended, for good: a second call for the same trial changes nothing. Returns what is on disk."""
        kept = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}  # a fusion has no NE
        row = {
            "trial": name_of(number),
            "number": number,
            "config": dict(config),
            "metrics": kept,
            "error": error,
            "stopped": stopped,
            "seconds": round(seconds, 3),
        }
        file = self.path / "trials" / f"{name_of(number)}.json"
        if not file.exists():
            write_durably(file, json.dumps(row, indent=1, sort_keys=True) + "\n")
        return _read(file)

    def row(self, number: int) -> Row | None:
        """What is known of a trial that ended; None: it has not."""
        file = self.path / "trials" / f"{name_of(number)}.json"
        return _read(file) if file.exists() else None

    def rows(self) -> list[Row]:
        """All trials that ended, by number."""
        return sorted((_read(file) for file in (self.path / "trials").glob("*.json")), key=lambda row: int(row["number"]))

    def report(self, number: int, metrics: Mapping[str, float]) -> None:
        """Add what a trial reports on its way."""
        file = self.path / "reports" / f"{name_of(number)}.jsonl"
        lines = [*self.reports(number), {name: float(value) for name, value in metrics.items()}]
        write_durably(file, "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))

    def reports(self, number: int) -> list[dict[str, float]]:
        """What a trial has reported, in order."""
        file = self.path / "reports" / f"{name_of(number)}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def last(self, number: int) -> tuple[dict[str, float] | None, float]:
        """Metrics of a trial's last report, None where it made none, and its seconds."""
        reports = self.reports(number)
        if not reports:
            return None, 0.0
        return {name: value for name, value in reports[-1].items() if name != "seconds"}, reports[-1]["seconds"]


def name_of(number: int) -> str:
    """A trial's name."""
    return f"{number:04d}"


def write_durably(path: Path, text: str) -> None:
    """Write a file whole and for good: after this returns it is there, and before it is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(beside).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(file: Path) -> Row:
    try:
        row = json.loads(file.read_text())
        return {**row, "number": int(row["number"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: damaged ({error}); delete it and the trial runs again") from None
