"""A model server in front of a model server: counts what is asked of it. Cached scores are not; those are nobody's requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ranking.errors import Unavailable
from ranking.types import Float32Array
from services.gateway.ports import ModelServer
from services.rpc.tally import Counters, Histograms

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class MeasuredModels(Collector):
    """Batches, times and outcomes by model; a `ports.ModelServer` itself."""

    def __init__(self, server: ModelServer) -> None:
        """Nothing is counted yet.

        Args:
            server: does the work.
        """
        self._server = server
        self._rows = Histograms("longtail_model_batch_rows", "Rows of a request to a model", ("model",), _ROWS)
        self._seconds = Histograms("longtail_model_request_seconds", "Until it was answered or failed", ("model",), _SECONDS)
        self._requests = Counters("longtail_model_requests", "Requests to a model that ended", ("model", "version", "outcome"))

    async def infer(self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str, timeout_s: float) -> Float32Array:
        """As `ports.ModelServer.infer`."""
        self._rows.observe((model,), len(next(iter(inputs.values()))))
        began, outcome = time.perf_counter(), "error"
        try:
            answer = await self._server.infer(model, version, inputs, output, timeout_s)
            outcome = "ok"
            return answer
        except TimeoutError:
            outcome = "timeout"
            raise
        except Unavailable:
            outcome = "unavailable"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._seconds.observe((model,), time.perf_counter() - began)
            self._requests.add((model, str(version), outcome))

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        for one in (self._rows, self._seconds, self._requests):
            yield from one.collect()
