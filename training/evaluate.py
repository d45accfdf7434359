"""Judging on labelled files given by path, by source: each source's judge knows its files and its rankers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ranking.errors import UnknownName
from ranking.layout import Layout

JUDGES = {"esci": "training.relevance.evaluate", "clothing_reviews": "training.sentiment.evaluate"}
"""Module by source; it offers `judge(layout, *, ranker=…, FILE=PATH …) -> dict`, ready for JSON. A new source is one more line."""


def judge(layout: Layout, source: str, *, ranker: str | None, files: dict[str, Path | None]) -> dict[str, Any]:
    """Figures of a ranker on labelled files.

    Args:
        layout: the state directory.
        source: one of `JUDGES`.
        ranker: by name; None: the source's own choice.
        files: paths by option; None: not given.

    Raises:
        UnknownName: no such source.
        ValueError: a file that the source does not read, or lacks.
    """
    if source not in JUDGES:
        raise UnknownName("source", source, list(JUDGES))
    judging = importlib.import_module(JUDGES[source]).judge
    given = {name: path for name, path in files.items() if path is not None}
    takes = judging.__kwdefaults__ or {}
    accepted = set(judging.__annotations__) - {"layout", "return"}
    for name in given:
        if name not in accepted:
            raise ValueError(f"--{name}: source {source!r} does not read it")
    for name in accepted - set(takes):
        if name not in given:
            raise ValueError(f"--{name}: source {source!r} needs it")
    found: dict[str, Any] = judging(layout, **given, **({} if ranker is None else {"ranker": ranker}))
    return found
