"""The log of trials: one line per request that a trial concerns, as JSON lines in files named by their age.

No line knows a user: it has the `unit` of all users its key belongs to, one of `ranking.trial.UNITS`. The request path only appends to a
bounded queue; one thread writes. What finds the queue full, or the disk, is counted and lost.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

log = logging.getLogger(__name__)
_EVERY_S = 0.25
_STOP_S = 5.0

ACTIVE, TRIED = "active", "tried"
"""The two arms."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer during a canary, of either arm."""

    time: float  # seconds since 1970
    tried: str  # the release on trial
    active: str
    share: float  # of the trial then
    unit: int
    surface: str
    policy: str
    arm: str  # the one the request belongs to: what the tried release could not answer the active one did
    release: str  # that answered
    ranking_id: str  # joins feedback
    tiers: tuple[float, ...]  # shares of `TIERS` in the top
    ms: float
    degraded: bool
    kind: Literal["canary"] = "canary"


@dataclass(frozen=True, slots=True)
class Shadowed:
    """One request that both releases ranked, on the same features."""

    time: float
    tried: str
    active: str
    share: float
    unit: int
    surface: str
    policy: str
    overlap: float  # as `ranking.difference`, tried minus active
    correlation: float
    probability: float
    shift: float
    tiers_active: tuple[float, ...]
    tiers_tried: tuple[float, ...]
    ms_active: float  # without fetching features, which was done once
    ms_tried: float
    degraded_active: bool
    degraded_tried: bool
    kind: Literal["shadow"] = "shadow"


Line = Answered | Shadowed
_KINDS: dict[str, type[Line]] = {"canary": Answered, "shadow": Shadowed}
_NAMES = {kind: tuple(f.name for f in fields(kind)) for kind in _KINDS.values()}


class TrialLog:
    """The queue and its writer."""

    def __init__(self, directory: Path, *, queue: int, lines: int, files: int) -> None:
        """Start the writer thread; the directory is made with the first line.

        Args:
            directory: where the files go.
            queue: lines waiting beyond which new ones are dropped.
            lines: after which a file is closed.
            files: most files kept, the oldest go.
        """
        self._directory = directory
        self._limit = queue
        self._lines = lines
        self._files = files
        self._waiting: deque[Line] = deque()
        self._path: Path | None = None
        self._written = 0  # lines in it
        self.dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trial-log", daemon=True)
        self._thread.start()

    def offer(self, line: Line) -> None:
        """Take a line to be written, or count it as dropped."""
        if len(self._waiting) < self._limit:
            self._waiting.append(line)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Write what is waiting and end the thread."""
        self._stop.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        stopping = failed = False
        while not stopping:
            stopping = self._stop.wait(_EVERY_S)
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not lines:
                continue
            try:
                self._write(lines)
                failed = False
            except OSError:  # a full disk must not end the log for good
                self.dropped += len(lines)
                if not failed:
                    log.exception("trial_log_failed")
                failed = True

    def _write(self, lines: list[Line]) -> None:
        if self._path is None or self._written >= self._lines:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Names sort by age, and two processes never share one.
            self._path, self._written = self._directory / f"{time.time_ns():020d}-{os.getpid()}.jsonl", 0
            for old in sorted(self._directory.glob("*.jsonl"))[: -self._files + 1 or None]:
                old.unlink(missing_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(map(_text, lines))
        self._written += len(lines)


def read(directory: Path) -> Iterator[Line]:
    """Every line that was written and is kept, file after file; one that was cut short is left out."""
    for path in sorted(directory.glob("*.jsonl")):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # gone since, being the oldest
            continue
        for line in text.splitlines():
            found = _parse(line)
            if found is not None:
                yield found


def _parse(line: str) -> Line | None:
    try:
        fields = json.loads(line)
        kind: type[Line] = _KINDS[fields["kind"]]
        return kind(**{name: _number(value) for name, value in fields.items()})
    except (ValueError, TypeError, KeyError):
        return None


def _text(line: Line) -> str:
    """Without `asdict`, whose copies take several times as long as the rest: this thread shares the interpreter with requests."""
    return json.dumps({name: _plain(getattr(line, name)) for name in _NAMES[type(line)]}) + "\n"


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_number(v) for v in value)
    return math.nan if value is None else value
