"""What tells a process to stop."""

from __future__ import annotations

import asyncio
import signal
import sys


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; call inside the running loop."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked


def stop_without_parent(asked: asyncio.Event) -> None:
    """Set the event, too, at the end of standard input: a pipe whose other end a parent holds, and never writes to, while it lives."""
    loop, end = asyncio.get_running_loop(), sys.stdin.fileno()

    def gone() -> None:
        loop.remove_reader(end)  # it stays readable
        asked.set()

    loop.add_reader(end, gone)
