"""Features as numpy arrays: what a Python backend asks for, and the packed bytes of an answer unpacked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from longtail.features.v1 import online_feature_service_pb2 as pb
from numpy.typing import NDArray

from ranking.features import Entity
from ranking.types import Freshness
from services.client import check

_KINDS = {Entity.USER: pb.ENTITY_KIND_USER, Entity.ITEM: pb.ENTITY_KIND_ITEM}
_DTYPES = {pb.DATA_TYPE_FLOAT32: "<f4", pb.DATA_TYPE_FLOAT32_LIST: "<f4", pb.DATA_TYPE_INT64: "<i8", pb.DATA_TYPE_INT64_LIST: "<i8"}
_STATES = np.array([None, *Freshness], object)  # by their number on the wire


@dataclass(frozen=True, slots=True)
class OnlineFeatures:
    """An answer of `OnlineFeatureService`, in the order of the ids asked for."""

    columns: Mapping[str, NDArray[Any]]  # by feature, (n,): float32, int64, or objects: str, or an array per entity
    views: Mapping[str, str]  # feature -> its view
    freshness: Mapping[str, NDArray[Any]]  # by view, (n,) `Freshness`
    event_times: Mapping[str, NDArray[np.datetime64]]  # by view, (n,) UTC, NaT where the view has no row
    degradations: Mapping[str, str]  # component -> reason


def features_request(
    entity: Entity, ids: Sequence[str], features: Sequence[str] = (), *, service: str = "", max_age_s: float | None = None
) -> pb.GetOnlineFeaturesRequest:
    """Build a request; limits and errors are the server's, which names the field.

    Args:
        entity: what the ids are of.
        ids: (n,) unique.
        features: names; or
        service: all that a feature service has of this entity.
        max_age_s: age beyond which a row counts as stale although its view's lifetime is longer.

    Raises:
        InvalidField: a value is of another type than the field, a text is no Unicode, or the age cannot be carried.
    """
    check.typed("entity", entity, Entity)
    check.text("service", service)
    request = pb.GetOnlineFeaturesRequest(
        entity=_KINDS[entity], ids=check.texts("ids", ids), features=check.texts("features", features), feature_service=service
    )
    if max_age_s is not None:
        request.max_age.FromNanoseconds(round(check.duration_s("max_age_s", max_age_s) * 1e9))
    return request


def unpacked(answer: pb.GetOnlineFeaturesResponse) -> OnlineFeatures:
    """The answer's columns as arrays."""
    return OnlineFeatures(
        columns={column.name: _column(column) for column in answer.columns},
        views={column.name: column.view for column in answer.columns},
        freshness={view.view: _STATES[np.frombuffer(view.statuses, np.uint8)] for view in answer.views},
        event_times={view.view: np.frombuffer(view.event_times, "<i8").view("<M8[us]") for view in answer.views},
        degradations={d.component: d.reason for d in answer.degradations},
    )


def _column(column: pb.FeatureColumn) -> NDArray[Any]:
    if not column.offsets:
        return np.frombuffer(column.values, _DTYPES[column.type])
    ends = np.frombuffer(column.offsets, "<i4").tolist()
    parts: list[Any] = list(pairwise(ends))
    out = np.empty(len(parts), object)
    if column.type == pb.DATA_TYPE_STRING:
        out[:] = [column.values[a:b].decode() for a, b in parts]
        return out
    elements = np.frombuffer(column.values, _DTYPES[column.type])
    for i, (a, b) in enumerate(parts):
        out[i] = elements[a:b]
    return out
