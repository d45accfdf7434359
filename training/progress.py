"""Progress bars of everything that takes longer than a few seconds; plain lines where nobody watches a terminal."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)


class Bar:
    """A bar over `total` steps. Without a terminal: one line when it starts, one when it ends."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self._done, self._lock = 0, threading.Lock()
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Bar:
        self._start = time.perf_counter()
        self._progress.start()
        self._task = self._progress.add_task(self.what, total=self.total)
        if not console.is_terminal:
            print(f"  {self.what} … ({self.total})", file=sys.stderr, flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        if not console.is_terminal:
            print(f"  {self.what}: {self._done}/{self.total} in {time.perf_counter() - self._start:.1f} s", file=sys.stderr, flush=True)

    def advance(self, steps: int = 1) -> None:
        """Move on by `steps`; from any thread."""
        with self._lock:
            self._done += steps
        self._progress.advance(self._task, steps)
