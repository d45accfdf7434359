"""`longtail bench features`: what the feature platform does per second and how fast, each part beside its yardstick.

A part is a function that measures and returns figures; the parts know nothing of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ranking.layout import Layout
from services.bench import events, reads, snapshot
from services.bench.report import report

Part = Callable[[Layout, bool], Mapping[str, float]]  # (state directory, quick) -> figures

PARTS: Mapping[str, Part] = {"events": events.figures, "snapshot": snapshot.figures, "reads": reads.figures}
WANTED: Mapping[str, tuple[str, float]] = {**snapshot.WANTED, **reads.WANTED}  # by key of a figure


def run(layout: Layout, *, quick: bool = False, only: Sequence[str] = ()) -> dict[str, Any]:
    """Measure the parts one after the other and report.

    Args:
        layout: the state directory.
        quick: a few seconds for each part: shows that it runs.
        only: parts by name; empty: all.

    Returns:
        The benchmark's JSON object: `bench`, `revision`, `host`, `figures`, `wanted`, `met`.

    Raises:
        ValueError: a part is not known.
        RuntimeError: what is measured does not work.
    """
    for name in only:
        if name not in PARTS:
            raise ValueError(f"--only: {name!r} is not a part; known: {', '.join(PARTS)}")
    figures: dict[str, float] = {}
    for name in only or PARTS:
        figures |= PARTS[name](layout, quick)
    return report("features", figures, {key: mark for key, mark in WANTED.items() if key in figures})
