"""What workers say of themselves, each in a file of its own, and what that makes of the gateway as a whole: `run/gateway.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ranking.layout import Layout


def told(layout: Layout, worker: int) -> Path:
    """The file a gateway process writes; worker 0 is one without a parent, or the parent itself."""
    return layout.run / (f"gateway-{worker}.json" if worker else "gateway.json")


def read(layout: Layout, worker: int, pid: int) -> dict[str, Any] | None:
    """What a worker says; None where it has said nothing yet, and only a process before it did."""
    try:
        said = dict(json.loads(told(layout, worker).read_text()))
    except (OSError, ValueError):
        return None
    return said if said.get("pid") == pid else None


def left(layout: Layout, address: str) -> list[int]:
    """Process ids of living workers on an address that some parent left behind, or still has."""
    pids = []
    for path in layout.run.glob("gateway-*.json"):
        try:
            said = json.loads(path.read_text())
            if said["address"] == address:
                os.kill(said["pid"], 0)
                pids.append(int(said["pid"]))
        except (OSError, ValueError, KeyError, TypeError):  # it is no more, or what it wrote is no use
            continue
    return pids


def summary(address: str, metrics: str, said: Sequence[Mapping[str, Any] | None], *, restarting: Sequence[int]) -> dict[str, Any]:
    """The gateway as one: ready when every worker is, of a release or a trial only what all of them say.

    Args:
        address: they listen on.
        metrics: where all of them are scraped at once; empty: nowhere.
        said: (n,) by each worker, the first is worker 1.
        restarting: workers that died and are not ready again.
    """
    ready = all(one is not None and one.get("ready") for one in said)
    out: dict[str, Any] = {
        "address": address,
        "metrics": metrics,
        "ready": ready,
        "workers": [
            {"worker": i, "pid": one["pid"] if one else None, "ready": bool(one and one.get("ready"))} for i, one in enumerate(said, 1)
        ],
    }
    if ready:
        out |= {key: _shared(said, key) for key in ("release", "trial")}
    if restarting:
        out["error"] = f"of {len(said)} workers {', '.join(map(str, restarting))} died and is being started again"
    return out


def _shared(said: Sequence[Mapping[str, Any] | None], key: str) -> Any:
    """What all of them say; None while they differ, as they do for a moment after an activation."""
    values = [one.get(key) if one else None for one in said]
    return values[0] if all(value == values[0] for value in values) else None
