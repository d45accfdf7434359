"""Keeps a background process alive: `python -m deploy.supervise MODULE [option …]` runs `python -m MODULE [option …]`, again when it dies.

Told to stop (SIGTERM, SIGINT) it tells its child so and ends with it; killed, it takes the child along. A child that ends by itself with
0, or with 2 because it cannot start as asked, is not started again. Knows nothing of what it runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from deploy.triton import guard

SETTLED_S = 60.0  # a child that lived so long is not one that dies at its start
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_ENDED, _REFUSED = 0, 2


def supervise(command: list[str], stop: threading.Event, *, started: Callable[[subprocess.Popen[bytes]], None], pause_s: float) -> int:
    """Run a command again and again until it ends in good order, or `stop` is set; the child's last exit status.

    Args:
        command: program and arguments.
        stop: set: no child is started any more; who sets it tells the child.
        started: told each child.
        pause_s: before a child that died is started again; doubles while it goes on dying, up to half a minute.
    """
    pause = pause_s
    while True:
        began = time.monotonic()
        child = subprocess.Popen([sys.executable, guard.__file__, str(os.getpid()), *command])
        started(child)
        code = child.wait()
        if stop.is_set() or code in (_ENDED, _REFUSED):
            return code
        if time.monotonic() - began >= SETTLED_S:
            pause = pause_s
        with contextlib.suppress(OSError):  # a log on a full disk is no reason to leave the process dead
            print(f"supervise: the process ended with {code}; it is started again in {pause:g} s", file=sys.stderr, flush=True)
        if stop.wait(pause):
            return code
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def main(arguments: list[str]) -> int:
    """Supervise a module until told to stop."""
    stop = threading.Event()
    children: list[subprocess.Popen[bytes]] = []

    def tell(number: int = signal.SIGTERM, _: FrameType | None = None) -> None:
        stop.set()
        for child in children[-1:]:
            child.send_signal(number)  # of one that has ended nothing comes

    def started(child: subprocess.Popen[bytes]) -> None:
        children[:] = [child]
        if stop.is_set():  # told while the child was being started
            tell()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    code = supervise([sys.executable, "-m", *arguments], stop, started=started, pause_s=_FIRST_PAUSE_S)
    return 0 if stop.is_set() else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
