"""The batch's part of `longtail bench features`: feature rows computed per second, from the canonical tables to Parquet files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ranking.layout import Layout
from training import sources, tables

WANTED: Mapping[str, tuple[str, float]] = {"batch_s": ("<=", 60.0)}
QUICK_WEEKS = 2


def figures(layout: Layout, quick: bool) -> dict[str, float]:
    """Compute the default source's whole history anew, then once more from a week earlier; nothing of it stays.

    Args:
        layout: the state directory; its canonical tables are made if they are not there.
        quick: the last `QUICK_WEEKS` snapshots instead of all.

    Returns:
        `batch_rows_per_s` and `batch_s` of a full run, its parts as `batch_NAME_s`, and `batch_grown_s`: a run that adds the last week.
    """
    canonical = sources.prepare(layout).path
    first = tables.LAST_WEEK - QUICK_WEEKS + 1 if quick else tables.FIRST_WEEK
    with TemporaryDirectory(dir=layout.home) as folder:
        full, before, grown = (Path(folder) / name for name in ("full", "before", "grown"))
        for out in (full, before, grown):
            out.mkdir()
        taken, parts = _timed(canonical, full, first, tables.LAST_WEEK)
        rows = sum(json.loads((full / "meta.json").read_text())["rows"].values())
        _timed(canonical, before, first, tables.LAST_WEEK - 1)
        added, _ = _timed(canonical, grown, first, tables.LAST_WEEK, older=before)
    seconds = {f"batch_{part}_s": value for part, value in parts.items()}
    return {"batch_rows_per_s": rows / taken, "batch_s": taken, "batch_grown_s": added, **seconds}


def _timed(canonical: Path, out: Path, first: int, last: int, *, older: Path | None = None) -> tuple[float, dict[str, float]]:
    """Seconds in all and by part."""
    start = time.perf_counter()
    parts = tables.write_tables(canonical, out, first_week=first, last_week=last, older=older)
    return time.perf_counter() - start, parts
