"""Between the wire and `services.online.types`: the only module of online features, besides the servicer, that knows both.

Every rule of the .proto file's comments is checked here, and all violations of a request are reported at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from longtail.features.v1 import online_feature_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2 as ranking_pb

from ranking.errors import InvalidField, InvalidFields
from ranking.features import FEATURE_SERVICES, Dtype, Entity, schema_hash
from services.feature_store.port import READABLE_VIEWS
from services.online.types import FEATURES, VIEW_OF, Answer, Question

MAX_IDS = 1000
MAX_ID_BYTES = 256
MAX_FEATURES = 200
MAX_ANSWER_BYTES = 16 * 1024 * 1024
NO_ROW = np.iinfo(np.int64).min
"""Event time of a row that is not there, as in numpy's datetime64."""
_SHOWN = 64  # characters of an offending name in an error
_WRONG = 20  # ids or features of a request that are named, once so many are wrong the others say nothing new

_ENTITIES = {pb.ENTITY_KIND_USER: Entity.USER, pb.ENTITY_KIND_ITEM: Entity.ITEM}
_TYPES: dict[Dtype, pb.DataType.ValueType] = {
    "float32": pb.DATA_TYPE_FLOAT32,
    "int64": pb.DATA_TYPE_INT64,
    "string": pb.DATA_TYPE_STRING,
    "float32_list": pb.DATA_TYPE_FLOAT32_LIST,
    "int64_list": pb.DATA_TYPE_INT64_LIST,
}
_QUALIFIED = {e: {f"{READABLE_VIEWS[e][v].name}:{name}": name for name, v in views.items()} for e, views in VIEW_OF.items()}


def to_question(message: pb.GetOnlineFeaturesRequest) -> Question:
    """The validated request.

    Raises:
        InvalidFields: with every violation found.
    """
    wrong: list[InvalidField] = []
    entity = _ENTITIES.get(message.entity)
    if entity is None:
        known = ", ".join(map(pb.EntityKind.Name, _ENTITIES))
        wrong.append(InvalidField("entity", f"{message.entity} is not a kind of entity; known: {known}"))
    n = len(message.ids)
    ids = tuple(message.ids) if n <= MAX_IDS else ()  # of more nothing is looked at
    _check_ids(wrong, ids, n)
    features = _features(wrong, message, entity)
    max_age_s = _max_age(wrong, message)
    if wrong or entity is None:
        raise InvalidFields(wrong)
    return Question(entity, ids, features, max_age_s)


def to_response(question: Question, answer: Answer) -> pb.GetOnlineFeaturesResponse:
    """The answer.

    Raises:
        InvalidField: it would be too large.
    """
    size = sum(column.nbytes for column in answer.columns.values()) + 9 * len(question.ids) * len(answer.lifetimes)
    if size > MAX_ANSWER_BYTES:
        raise InvalidField(
            "ids", f"the answer would have {size} bytes, more than {MAX_ANSWER_BYTES}: ask for fewer of them, or fewer features"
        )
    views, place, schema = READABLE_VIEWS[question.entity], VIEW_OF[question.entity], FEATURES[question.entity]
    return pb.GetOnlineFeaturesResponse(
        columns=[
            pb.FeatureColumn(
                name=name,
                view=views[place[name]].name,
                type=_TYPES[schema[name].dtype],
                values=answer.columns[name].values.tobytes(),
                offsets=b"" if (offsets := answer.columns[name].offsets) is None else offsets.tobytes(),
            )
            for name in question.features
        ],
        views=[
            pb.ViewFreshness(
                view=views[v].name,
                statuses=(answer.states[v] + 1).astype("u1").tobytes(),  # the order of `Freshness`, from 1
                event_times=_micros(answer.event_times[v]).tobytes(),
                lifetime=Duration(seconds=int(answer.lifetimes[v]), nanos=round(float(answer.lifetimes[v] % 1) * 1e9)),
            )
            for v in question.views()
        ],
        degradations=[ranking_pb.Degradation(component=d.component, reason=d.reason, detail=d.detail) for d in answer.degradations],
        feature_schema_hash=schema_hash(),
    )


def _micros(seconds: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    absent = np.isnan(seconds)
    return np.where(absent, NO_ROW, np.rint(np.where(absent, 0.0, seconds) * 1e6).astype("<i8")).astype("<i8")


def _check_ids(wrong: list[InvalidField], ids: Sequence[str], n: int) -> None:
    if not 1 <= n <= MAX_IDS:
        wrong.append(InvalidField("ids", f"need 1 to {MAX_IDS} ids, got {n}"))
        return
    if len(set(ids)) == n and "" not in ids and len(max(ids, key=len)) * 4 <= MAX_ID_BYTES:  # a character takes at most 4 bytes
        return
    found: list[InvalidField] = []
    first: dict[str, int] = {}
    for i, one in enumerate(ids):
        at = first.setdefault(one, i)
        if not one:
            found.append(InvalidField(f"ids[{i}]", "must not be empty"))
        elif at != i:
            found.append(InvalidField(f"ids[{i}]", f"{one[:_SHOWN]!r} is already id {at}; ids must be unique"))
        elif (size := len(one.encode())) > MAX_ID_BYTES:
            found.append(InvalidField(f"ids[{i}]", f"at most {MAX_ID_BYTES} bytes, got {size}"))
    wrong += found[:_WRONG]


def _features(wrong: list[InvalidField], message: pb.GetOnlineFeaturesRequest, entity: Entity | None) -> Sequence[str]:
    """Names without their view's, in the order of the answer's columns."""
    service = message.feature_service
    if service and message.features:
        wrong.append(InvalidField("feature_service", "features are named too; set one of both"))
    elif service and service not in FEATURE_SERVICES:
        wrong.append(InvalidField("feature_service", f"{service[:_SHOWN]!r} is not known; known: {', '.join(sorted(FEATURE_SERVICES))}"))
    elif service:
        return [f.name for view in FEATURE_SERVICES[service] for f in view if view.entity is entity]
    elif not 1 <= len(message.features) <= MAX_FEATURES:
        wrong.append(InvalidField("features", f"need 1 to {MAX_FEATURES} names, or a feature_service, got {len(message.features)}"))
    elif entity is not None:
        return _named(wrong, message.features, entity)
    return []


def _named(wrong: list[InvalidField], asked: Sequence[str], entity: Entity) -> Sequence[str]:
    names: dict[str, int] = {}
    found: list[InvalidField] = []
    for i, given in enumerate(asked):
        name = _QUALIFIED[entity].get(given, given)
        if name not in FEATURES[entity]:
            found.append(InvalidField(f"features[{i}]", _unknown(given, entity)))
        elif (at := names.setdefault(name, i)) != i:
            found.append(InvalidField(f"features[{i}]", f"{given!r} is already feature {at}; each can be asked for once"))
    wrong += found[:_WRONG]
    return list(names)


def _unknown(given: str, entity: Entity) -> str:
    for other in Entity:
        if given in FEATURES[other] or given in _QUALIFIED[other]:
            return f"{given!r} is a feature of {other}, not of {entity}"
    return f"{given[:_SHOWN]!r} is not a feature of {entity}; known: {', '.join(FEATURES[entity])}"


def _max_age(wrong: list[InvalidField], message: pb.GetOnlineFeaturesRequest) -> float:
    if not message.HasField("max_age"):
        return float("inf")
    seconds = message.max_age.seconds + message.max_age.nanos * 1e-9
    if not (0 <= message.max_age.nanos < 10**9 and seconds > 0):
        wrong.append(InvalidField("max_age", f"must be greater than 0, got {message.max_age.seconds} s and {message.max_age.nanos} ns"))
    return seconds
