"""The gateway with models that answer at once, in a process of its own: what everything but the models costs.

`python -m services.bench.stub [--option value …]` takes the gateway's options, prints its address once it serves, and ends on SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.types import Float32Array
from services.gateway.server import running
from services.gateway.settings import Settings, load
from services.rpc import log, loop
from services.rpc.signals import stop_signal


@cache
def _log_odds(n: int) -> Float32Array:
    answer = np.linspace(-4.0, 0.0, n, dtype=np.float32)
    answer.flags.writeable = False  # every answer of this length
    return answer


class Stub:
    """Log-odds that differ from row to row, without looking at them."""

    async def infer(self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str, timeout_s: float) -> Float32Array:
        """As `ports.ModelServer.infer`."""
        return _log_odds(len(next(iter(inputs.values()))))


async def serve(settings: Settings) -> None:
    """Answer until told to stop."""
    asked = stop_signal()
    async with running(settings, models=Stub()) as server:
        loop.started()
        print(server.address, flush=True)
        await asked.wait()


if __name__ == "__main__":
    chosen = load(sys.argv[1:], os.environ)
    log.configure(chosen.log_level)
    sys.exit(loop.run(serve(chosen)))
