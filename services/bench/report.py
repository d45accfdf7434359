"""The one form in which every benchmark of the services reports: figures, what is wanted of them, and whether it is met."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def report(bench: str, figures: Mapping[str, float], wanted: Mapping[str, tuple[str, float]]) -> dict[str, Any]:
    """The benchmark's JSON object: `bench`, `revision`, `host`, `figures`, `wanted`, `met`.

    Args:
        bench: its name.
        figures: what was measured; rounded to four places.
        wanted: key of a figure -> (">=" or "<=", number).
    """
    rounded = {name: round(float(value), 4) for name, value in figures.items()}
    return {
        "bench": bench,
        "revision": _revision(),
        "host": host(),
        "figures": rounded,
        "wanted": {name: list(mark) for name, mark in wanted.items()},
        "met": {name: rounded[name] >= mark if sign == ">=" else rounded[name] <= mark for name, (sign, mark) in wanted.items()},
    }


def host() -> dict[str, Any]:
    """Cores, processor and memory of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count(), "cpu": cpu, "memory": f"{memory / 2**30:.0f} GiB"}


def _revision() -> str:
    here = Path(__file__).resolve().parent
    found = subprocess.run(["git", "-C", str(here), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
