"""The pointer: the file that says which release is active, and which one is on trial beside it.

Reading and moving it is `deploy`'s and `services`' business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ranking.errors import InvalidRelease
from ranking.release import ID, need
from ranking.trial import Mode, Trial

_TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which release is active, which were before it, and which is on trial."""

    release: str
    activated: str  # RFC 3339, UTC
    previous: tuple[str, ...] = ()  # latest first: rollback goes to the first
    trial: Trial | None = None


def pointer_text(pointer: Pointer) -> str:
    """The pointer file's content."""
    data: dict[str, Any] = {"release": pointer.release, "activated": pointer.activated, "previous": list(pointer.previous)}
    if pointer.trial is not None:
        data[_TRIAL] = asdict(pointer.trial)
    return json.dumps(data) + "\n"


def read_pointer(text: str) -> Pointer:
    """Parse the pointer file's content. A trial that cannot be read is none: it does not keep the active release from serving.

    Raises:
        InvalidRelease: the content is not a pointer.
    """
    data = _object(text)
    release = need(data, "release", _is_id, f"must match {ID.pattern}")
    activated = need(data, "activated", lambda v: isinstance(v, str), "must be a string")
    previous = need(data, "previous", lambda v: isinstance(v, list) and all(map(_is_id, v)), "must be a list of release ids")
    try:
        trial = _trial(data)
    except InvalidRelease:
        trial = None
    return Pointer(release, activated, tuple(previous), trial)


def read_trial(text: str) -> Trial | None:
    """The trial in the pointer file's content, None where there is none.

    Raises:
        InvalidRelease: the content is not a pointer, or naming the key of the trial that is wrong.
    """
    return _trial(_object(text))


def parse_pointer(text: str) -> str:
    """The active release's id from the pointer file's content.

    Raises:
        InvalidRelease: the content is not a pointer.
    """
    return read_pointer(text).release


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as wrong:
        raise InvalidRelease("ACTIVE", f"is not JSON: {wrong}") from None
    if not isinstance(data, dict):
        raise InvalidRelease("ACTIVE", f"must be an object, got {text[:80]!r}")
    return data


def _trial(data: Mapping[str, Any]) -> Trial | None:
    found = data.get(_TRIAL)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise InvalidRelease(_TRIAL, f"must be an object, got {str(found)[:80]!r}")
    try:
        trial = Trial(
            release=need(found, "release", _is_id, f"must match {ID.pattern}"),
            mode=Mode(need(found, "mode", lambda v: v in list(Mode), f"must be one of {', '.join(Mode)}")),
            share=float(need(found, "share", _is_share, "must be a number within [0, 1]")),
            salt=need(found, "salt", lambda v: isinstance(v, str) and v, "must be a non-empty string"),
            started=need(found, "started", lambda v: isinstance(v, str), "must be a string"),
        )
    except InvalidRelease as wrong:
        raise InvalidRelease(f"{_TRIAL}.{wrong.key}", wrong.reason) from None
    if trial.release == data.get("release"):
        raise InvalidRelease(f"{_TRIAL}.release", f"{trial.release!r} is the active release")
    return trial


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and ID.match(value) is not None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1
