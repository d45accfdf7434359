"""What the controller says of Triton and of itself, in ``<home>/run/triton.json``, for whoever wants to know."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from ranking.layout import Layout

STATE = "triton.json"


@dataclass(frozen=True, slots=True)
class State:
    """What `triton.json` says."""

    pid: int  # the controller's
    triton_pid: int  # 0 while none runs
    grpc: str  # host:port, the same for as long as the controller runs
    http: str
    metrics: str
    ready: bool  # Triton answers and serves what it should
    release: str | None  # active and verified; None where nothing was ever activated or it is not ready
    error: str  # why it is not ready, or what is wrong although it is; empty where all is well, or while it starts
    scrape: str = ""  # where the controller's own metrics are; `metrics` are Triton's
    releases: str = ""  # host:port of `ReleaseService`


def read_state(layout: Layout) -> State | None:
    """What the controller last said, None where none runs (or ended without saying so, or is of another version and says it otherwise)."""
    try:
        state = State(**json.loads((layout.run / STATE).read_text(encoding="utf-8")))
        os.kill(state.pid, 0)
    except (FileNotFoundError, ProcessLookupError, ValueError, TypeError):
        return None
    return state
