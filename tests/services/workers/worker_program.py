"""Stands in for a gateway in tests of its parent: `worker_program.py HOME WORKER ADDRESS [death]`, written to start fast.

Writes its id to HOME/pids-WORKER and what a worker says to `run/`; ends with 0 on SIGTERM and at the end of standard input. With a death
it ends with that status at once, or, with `deaf`, minds no SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def main(home: Path, worker: int, address: str, death: str = "") -> int:
    with (home / f"pids-{worker}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if death.isdigit():
        return int(death)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if death == "deaf" else lambda *_: sys.exit(0))
    run = home / "run"
    run.mkdir(exist_ok=True)
    draft = run / f"draft-{os.getpid()}"
    draft.write_text(json.dumps({"pid": os.getpid(), "address": address, "metrics": "", "ready": True, "release": "r1", "trial": None}))
    draft.replace(run / f"gateway-{worker}.json")
    sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
