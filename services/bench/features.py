"""`longtail bench features`: what the feature platform does per second and how fast, each part beside its yardstick.

A part is a function that measures and returns figures; the parts know nothing of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ranking.layout import Layout
from services.bench import events, push, reads, snapshot
from services.bench.report import report

Marks = Mapping[str, tuple[str, float]]  # key of a figure -> (">=" or "<=", number)
Part = Callable[[Layout, bool], Mapping[str, float]]  # (state directory, quick) -> figures

PARTS: Mapping[str, Part] = {"events": events.figures, "push": push.figures, "snapshot": snapshot.figures, "reads": reads.figures}
WANTED: Mapping[str, tuple[str, float]] = {**push.WANTED, **snapshot.WANTED, **reads.WANTED}  # by key of a figure


def run(
    layout: Layout, *, quick: bool = False, only: Sequence[str] = (), others: Mapping[str, tuple[Part, Marks]] = MappingProxyType({})
) -> dict[str, Any]:
    """Measure the parts one after the other and report.

    Args:
        layout: the state directory.
        quick: a few seconds for each part: shows that it runs.
        only: parts by name; empty: all.
        others: parts that are not the services', by name, each with what is wanted of its figures.

    Returns:
        The benchmark's JSON object: `bench`, `revision`, `host`, `figures`, `wanted`, `met`.

    Raises:
        ValueError: a part is not known.
        RuntimeError: what is measured does not work.
    """
    parts = {**PARTS, **{name: part for name, (part, _) in others.items()}}
    wanted = {**WANTED, **{key: mark for _, marks in others.values() for key, mark in marks.items()}}
    for name in only:
        if name not in parts:
            raise ValueError(f"--only: {name!r} is not a part; known: {', '.join(parts)}")
    figures: dict[str, float] = {}
    for name in only or parts:
        figures |= parts[name](layout, quick)
    return report("features", figures, {key: mark for key, mark in wanted.items() if key in figures})
