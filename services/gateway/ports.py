"""What the gateway needs from the outside, as small as it can be said. Tests have a fake of a few lines for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from ranking.types import Float32Array


class ModelServer(Protocol):
    """Runs one model version on one batch."""

    async def infer(self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str, timeout_s: float) -> Float32Array:
        """The (n,) float32 `output` for inputs whose first dimension is n.

        Raises:
            TimeoutError: no answer within `timeout_s`.
            Unavailable: the server or this model version cannot answer.
        """
        ...
