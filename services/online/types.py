"""The nouns of reading features: a question, and its answer in columns. Knows neither the wire nor any store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.features import Entity, Feature
from ranking.types import Degradation, FloatArray
from services.feature_store.port import READABLE_VIEWS
from services.online.columns import Column

FEATURES: dict[Entity, dict[str, Feature]] = {e: {f.name: f for view in views for f in view} for e, views in READABLE_VIEWS.items()}
"""Every feature by entity and name, in the schema's order."""
VIEW_OF: dict[Entity, dict[str, int]] = {
    e: {f.name: v for v, view in enumerate(views) for f in view} for e, views in READABLE_VIEWS.items()
}
"""The place of each feature's view among the entity's."""
LIFETIMES: dict[Entity, FloatArray] = {e: np.array([v.ttl.total_seconds() for v in views]) for e, views in READABLE_VIEWS.items()}
"""(views,) seconds beyond which their rows are stale."""


@dataclass(frozen=True, slots=True)
class Question:
    """A validated request."""

    entity: Entity
    ids: Sequence[str]  # (n,) unique
    features: Sequence[str]  # names, unique, of this entity
    max_age_s: float = float("inf")

    def views(self) -> list[int]:
        """Places of the views that the features are of, among the entity's, ascending."""
        return sorted({VIEW_OF[self.entity][name] for name in self.features})


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found. The rows of `event_times` and `states` are all views of the entity."""

    columns: Mapping[str, Column]  # by feature, (n,) each
    event_times: FloatArray  # (views, n) seconds since 1970, NaN where a view has no row
    states: NDArray[np.int8]  # (views, n) index into `Freshness`
    lifetimes: FloatArray  # (views,) seconds beyond which a row is stale
    degradations: Sequence[Degradation]
