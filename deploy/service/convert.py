"""The door of `ReleaseService`: its messages to plain values and back, for both of its sides. No message goes further."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from google.protobuf import timestamp_pb2
from longtail.release.v1 import release_service_pb2 as pb

from deploy.garbage import Freed
from deploy.operations import Described, DescribedMember
from deploy.store import Listed
from ranking.errors import InvalidField
from ranking.trial import Mode, Trial
from ranking.variants import Parity

_MODES = {Mode.CANARY: pb.TRIAL_MODE_CANARY, Mode.SHADOW: pb.TRIAL_MODE_SHADOW}


def release_id(request: Any) -> str:
    """The release a request names.

    Raises:
        InvalidField: none.
    """
    if not request.release:
        raise InvalidField("release", "is required")
    return str(request.release)


def traffic(request: pb.SetTrafficRequest) -> tuple[str, Mode, float] | None:
    """What a request wants tried, how and for whom; None: no trial.

    Raises:
        InvalidField: naming the field.
    """
    if request.mode == pb.TRIAL_MODE_UNSPECIFIED:
        for field in ("release", "share"):
            if getattr(request, field) or (field == "share" and request.HasField("share")):
                raise InvalidField(field, "must not be set without a mode, which ends the trial")
        return None
    modes = {number: mode for mode, number in _MODES.items()}
    if request.mode not in modes:
        raise InvalidField("mode", f"{request.mode} is not known")
    if not request.HasField("share"):
        raise InvalidField("share", "is required with a mode")
    if not (math.isfinite(request.share) and 0.0 <= request.share <= 1.0):
        raise InvalidField("share", f"must be within 0 and 1, got {request.share}")
    return request.release, modes[request.mode], request.share


def mode_to_proto(mode: Mode) -> pb.TrialMode.ValueType:
    return _MODES[mode]


def kept(request: pb.CollectGarbageRequest, default: int) -> int:
    """How many releases to keep.

    Raises:
        InvalidField: fewer than none.
    """
    keep = request.keep if request.HasField("keep") else default
    if keep < 0:
        raise InvalidField("keep", f"must not be negative, got {keep}")
    return keep


def listed_to_proto(row: Listed) -> pb.ReleaseSummary:
    return pb.ReleaseSummary(id=row.id, created_time=_time(row.created), active=row.active, problem=row.problem)


def listed(row: pb.ReleaseSummary) -> Listed:
    return Listed(row.id, _text(row.created_time) if row.HasField("created_time") else "", row.active, row.problem)


def described_to_proto(release: Described) -> pb.Release:
    return pb.Release(
        id=release.id,
        created_time=_time(release.created),
        lineage=release.lineage,
        feature_schema_hash=release.feature_schema_hash,
        members=[
            pb.Member(
                name=m.name,
                kind=m.kind,
                model=m.model,
                version=m.version,
                parity=_parity_to_proto(m.parity) if m.parity else None,
                variants=[pb.Variant(name=name, parity=_parity_to_proto(p)) for name, p in m.variants],
                refused_variants=[pb.Variant(name=name, parity=_parity_to_proto(p)) for name, p in m.refused],
            )
            for m in release.members
        ],
        policies=release.policies,
    )


def described(release: pb.Release) -> Described:
    return Described(
        release.id,
        _text(release.created_time),
        dict(release.lineage),
        release.feature_schema_hash,
        tuple(
            DescribedMember(
                m.name,
                m.kind,
                m.model,
                m.version,
                _parity(m.parity) if m.HasField("parity") else None,
                tuple((v.name, _parity(v.parity)) for v in m.variants),
                tuple((v.name, _parity(v.parity)) for v in m.refused_variants),
            )
            for m in release.members
        ),
        tuple(release.policies),
    )


def trial_to_proto(trial: Trial) -> pb.Trial:
    return pb.Trial(release=trial.release, mode=_MODES[trial.mode], share=trial.share, start_time=_time(trial.started))


def trial(found: pb.Trial) -> Trial:
    """The salt stays with the controller."""
    mode = next(mode for mode, number in _MODES.items() if number == found.mode)
    return Trial(found.release, mode, found.share, found.release, _text(found.start_time))


def status_to_proto(found: dict[str, Any]) -> pb.GetStatusResponse:
    """From `deploy.standing.standing`."""
    tried, triton = found["trial"], found["triton"]
    serves = (triton or {}).get("serves") or {}
    silent = [triton["error"]] if triton and triton["error"] else []
    return pb.GetStatusResponse(
        active=found["active"] or "",
        activation_time=_time(found["activated"] or ""),
        previous=found["previous"],
        trial=trial_to_proto(Trial(tried["release"], Mode(tried["mode"]), tried["share"], "", tried["started"])) if tried else None,
        problems=dict.fromkeys([*found["problems"], *silent]),
        served=[
            pb.ServedVersion(model=model, version=int(version), state=state)
            for model, versions in serves.items()
            for version, state in versions.items()
        ],
    )


def status(found: pb.GetStatusResponse) -> dict[str, Any]:
    """As `deploy.standing.standing` says it, as far as it is known from afar."""
    serves: dict[str, dict[str, str]] = {}
    for one in found.served:
        serves.setdefault(one.model, {})[str(one.version)] = one.state
    tried = trial(found.trial) if found.HasField("trial") else None
    return {
        "active": found.active or None,
        "activated": _text(found.activation_time) if found.HasField("activation_time") else None,
        "previous": list(found.previous),
        "trial": {"release": tried.release, "mode": tried.mode.value, "share": tried.share, "started": tried.started} if tried else None,
        "problems": list(found.problems),
        "triton": {"address": "there", "serves": serves, "error": ""},
    }


def freed_to_proto(one: Freed) -> pb.RemovedRelease:
    return pb.RemovedRelease(release=one.release, created_time=_time(one.created), freed_bytes=one.freed)


def freed(one: pb.RemovedRelease) -> Freed:
    return Freed(one.release, _text(one.created_time), one.freed_bytes)


def _parity_to_proto(found: Parity) -> pb.Parity:
    return pb.Parity(rows=found.rows, max_error=found.max_error, rank_correlation=found.rank_correlation)


def _parity(found: pb.Parity) -> Parity:
    return Parity(found.rows, found.max_error, found.rank_correlation)


def _time(text: str) -> timestamp_pb2.Timestamp | None:
    """None for an empty text, and for one that is no instant: a manifest only promises a string."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None))
    return stamp


def _text(stamp: timestamp_pb2.Timestamp) -> str:
    return stamp.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
