"""What a row read from the feature store is worth: derived here, for every answer, and never asked from Feast, which serves expired rows
as present and, with Redis, unknown entities too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranking.features import Entity
from ranking.types import FloatArray
from services.feature_store.port import ENTITY_VIEWS

TTLS: dict[Entity, FloatArray] = {e: np.array([v.ttl.total_seconds() for v in views]) for e, views in ENTITY_VIEWS.items()}
"""Lifetimes of each entity's views in seconds, (views,)."""


def freshness_codes(event_times: FloatArray, ttls: FloatArray, now: float) -> NDArray[np.int8]:
    """State of each (view, entity) read, as an index into `list(Freshness)`: fresh 0, stale 1, missing 2, defaulted 3.

    An entity no view knows is missing; one that only some views know is defaulted in the others.

    Args:
        event_times: (v, n) seconds since 1970 of all views of the entities, NaN where there is no row.
        ttls: (v,) seconds.
        now: seconds since 1970.
    """
    absent = np.isnan(event_times)
    codes = (now - event_times > ttls[:, None]).view(np.int8)  # NaN compares false
    if absent.any():
        codes[absent] = 3
        codes[:, absent.all(axis=0)] = 2
    return codes
