"""The pointer: the file that says which release is active. Reading and moving it is `deploy`'s and `services`' business."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ranking.errors import InvalidRelease
from ranking.release import ID, need


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which release is active, and which were before it."""

    release: str
    activated: str  # RFC 3339, UTC
    previous: tuple[str, ...] = ()  # latest first: rollback goes to the first


def pointer_text(pointer: Pointer) -> str:
    """The pointer file's content."""
    return json.dumps({"release": pointer.release, "activated": pointer.activated, "previous": list(pointer.previous)}) + "\n"


def read_pointer(text: str) -> Pointer:
    """Parse the pointer file's content.

    Raises:
        InvalidRelease: the content is not a pointer.
    """
    try:
        data = json.loads(text)
    except ValueError as wrong:
        raise InvalidRelease("ACTIVE", f"is not JSON: {wrong}") from None
    if not isinstance(data, dict):
        raise InvalidRelease("ACTIVE", f"must be an object, got {text[:80]!r}")
    release = need(data, "release", lambda v: isinstance(v, str) and ID.match(v), f"must match {ID.pattern}")
    activated = need(data, "activated", lambda v: isinstance(v, str), "must be a string")
    previous = need(
        data,
        "previous",
        lambda v: isinstance(v, list) and all(isinstance(i, str) and ID.match(i) for i in v),
        "must be a list of release ids",
    )
    return Pointer(release, activated, tuple(previous))


def parse_pointer(text: str) -> str:
    """The active release's id from the pointer file's content: all that the gateway needs of it.

    Raises:
        InvalidRelease: the content is not a pointer.
    """
    return read_pointer(text).release
