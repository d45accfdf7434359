"""What the gateway needs from the outside, as small as it can be said. Tests have a fake of a few lines for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ranking.types import Float32Array, FloatArray


class ModelServer(Protocol):
    """Runs one model version on one batch."""

    async def infer(self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str, timeout_s: float) -> Float32Array:
        """The (n,) float32 `output` for inputs whose first dimension is n.

        Raises:
            TimeoutError: no answer within `timeout_s`.
            Unavailable: the server or this model version cannot answer.
        """
        ...


def freshness_codes(event_times: FloatArray, ttls: FloatArray, now: float) -> NDArray[np.int8]:
    """State of each (view, entity) read, as an index into `list(Freshness)`: fresh 0, stale 1, missing 2, defaulted 3.

    An entity no view knows is missing; one that only some views know is defaulted in the others.

    Args:
        event_times: (v, n) seconds since 1970, NaN where there is no row.
        ttls: (v,) seconds.
        now: seconds since 1970.
    """
    absent = np.isnan(event_times)
    codes = (now - event_times > ttls[:, None]).astype(np.int8)  # NaN compares false
    if absent.any():
        codes[absent] = 3
        codes[:, absent.all(axis=0)] = 2
    return codes
