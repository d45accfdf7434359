"""What a process says of itself in a file, for `longtail up` and `status` to read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SILENT_S = 5.0  # a process that writes twice a second and has not for so long hangs, or was stopped


def write(path: Path, **said: object) -> None:
    """Replace the file; the process id is added. Written beside and renamed, so that it is never read half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), **said}) + "\n")
    draft.replace(path)


def silent_s(said: Mapping[str, Any], now: float) -> float:
    """How long a process that writes over and over, with the time as `at`, has not: a moment is none.

    Args:
        said: what the file has.
        now: seconds since 1970.
    """
    age = now - said.get("at", now)
    return float(age) if age > SILENT_S else 0.0


def remove(path: Path) -> None:
    """Take it back; what cannot be removed says a process id that is no more."""
    with suppress(OSError):
        path.unlink()
