"""A feature process without Feast, to be killed: `run` is the target of a process that a fork server makes."""

from __future__ import annotations

from pathlib import Path

from services.features import stream
from tests.services.features.stream_fakes import Shop


def run(home: Path, rows: int) -> None:
    """Follow the log until killed, a few rows at a time so that there is always something half done."""
    stream._EVENTS, stream._ROWS = rows, rows
    with Shop(home) as shop:
        while True:
            shop.stream.tick()
