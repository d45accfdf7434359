"""What the processes need from a feature store, as small as it can be said. Tests have a fake of a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ranking.features import ALL_VIEWS, VIEWS, Entity, View
from ranking.types import FloatArray, IntArray

ENTITY_VIEWS: dict[Entity, tuple[View, ...]] = {e: tuple(v for v in VIEWS if v.entity is e) for e in Entity}
"""Views of each entity that ranking reads; their order is the row order of `FeatureRows.event_times`."""
READABLE_VIEWS: dict[Entity, tuple[View, ...]] = {
    e: (*views, *(v for v in ALL_VIEWS if v.entity is e and v not in views)) for e, views in ENTITY_VIEWS.items()
}
"""Those, and after them all others that can be asked for."""


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """What the store holds of ``n`` entities.

    Attributes:
        values: feature name -> (n,) values; of float32 features an array with NaN, else a sequence with None where the store has none.
        event_times: (views, n) seconds since 1970 of each view's row, NaN where the store has no row; of `ENTITY_VIEWS`, and of
            `READABLE_VIEWS` where a feature of another one was asked for.
    """

    values: Mapping[str, Sequence[Any]]
    event_times: FloatArray


class FeatureStore(Protocol):
    """The online feature store."""

    def read(self, entity: Entity, ids: Sequence[str], features: Sequence[str] = ()) -> FeatureRows:
        """One batched read. Blocks; called from one thread per entity.

        Args:
            entity: what the ids are of.
            ids: (n,)
            features: names of this entity's features; empty: those that ranking reads.

        Raises:
            Unavailable: the store did not answer.
        """
        ...


class Sink(Protocol):
    """Where rows go that were computed from events."""

    def push(self, view: View, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], event_times: IntArray) -> None:
        """Write whole rows of one view into the online store. Blocks; any number of threads and processes may.

        A row that is older than the one stored is left out, so that whoever comes late overwrites nothing newer.

        Args:
            view: what the rows are of.
            ids: (n,) entities, each once.
            columns: name -> (n,) values of every feature of the view; None: has none.
            event_times: (n,) µs since 1970.

        Raises:
            ValueError: a value is not of its feature's type, or a feature is missing; names it, and nothing is written.
            Unavailable: the store did not answer; whether something was written is not known, and the call may be made again.
        """
        ...


class Catalogue(Protocol):
    """What a feature store knows beyond the values it is asked for."""

    def ids(self, entity: Entity) -> Sequence[str]:
        """Every entity that the entity's first view was computed for, in no order, each once.

        Raises:
            Unavailable: the store did not answer.
        """
        ...

    def revision(self) -> str:
        """A few characters that change when definitions were applied, batch values were written, or another online store took the old
        one's place; says nothing of single rows pushed.

        Raises:
            Unavailable: the store did not answer.
        """
        ...
