"""Scores that another process of this machine is getting: waited for, as long as it lives and there is time, and no longer.

Claims are hints. Whoever does not see one, or sees one of a process that died or hangs, gets the scores itself: at worst twice.
"""

from __future__ import annotations

import asyncio
import os
import time

import numpy as np

from ranking.types import FloatArray, IntArray
from services.gateway.scores.table import Asked, ScoreTable

_FIRST_S, _LONGEST_S = 0.002, 0.02  # between two looks


async def awaited(table: ScoreTable, asked: Asked, digests: IntArray, until: float) -> FloatArray:
    """(n,) scores, NaN where nobody is getting them any more, or not by `until` (monotonic seconds)."""
    pause = _FIRST_S
    while True:
        claimants = table.claimants(asked, digests)  # first: a score that takes a claim's place in between is found
        scores = table.get(asked, digests)
        waiting = np.unique(claimants[np.isnan(scores) & (claimants > 0)])
        if not any(map(_alive, waiting.tolist())) or time.monotonic() >= until:
            return scores
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_S)


def _alive(pid: int) -> bool:
    """Whether there is such a process; one in another container's numbering is taken for dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
