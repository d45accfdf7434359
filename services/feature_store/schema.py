"""By whose definitions a registry was applied: each view carries the feature schema as a tag (`feature_repo/definitions.py`).

Knows views by their tags, and not Feast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from ranking.errors import Unavailable
from ranking.features import schema_hash


class Tagged(Protocol):
    """A view as the registry has it."""

    @property
    def tags(self) -> Mapping[str, str]: ...


def same_schema(views: Iterable[Tagged]) -> None:
    """Refuse views that were declared by another feature schema: their values may mean something else, under the same names.

    Raises:
        Unavailable: they were.
    """
    others = {said for view in views if (said := view.tags.get("schema_hash", schema_hash())) != schema_hash()}
    if others:
        raise Unavailable(
            f"feature store: its registry is of feature schema {', '.join(sorted(others))} and this program of {schema_hash()}: run the "
            "program and the release that go with it, or `feast apply` this program's feature_repo again"
        )
