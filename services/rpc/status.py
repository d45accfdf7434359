"""What a process says of itself in a file, for `longtail up` and `status` to read."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path


def write(path: Path, **said: object) -> None:
    """Replace the file; the process id is added. Written beside and renamed, so that it is never read half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), **said}) + "\n")
    draft.replace(path)


def remove(path: Path) -> None:
    """Take it back; what cannot be removed says a process id that is no more."""
    with suppress(OSError):
        path.unlink()
