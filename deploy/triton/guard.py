"""Becomes the program named after it, with one promise kept: it is told to end when its parent dies, however the parent dies.

Run as ``python guard.py PARENT_PID PROGRAM ARG…``. A trampoline rather than `preexec_fn`, which is unsafe in a process that has
threads (gRPC starts some). Linux only, like the server it starts. Imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(parent: int, program: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606  the caller names the program


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
