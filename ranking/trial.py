"""A trial: a release that a share of the requests meets before it becomes the active one. Who is among them is a function of their key.

Knows neither where the trial is written down (`ranking.pointer`) nor what becomes of the requests.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from ranking.types import RankRequest

UNITS = 1000  # into which users are divided for intervals: enough to draw from, and too few to tell one user
_RANGE = 1 << 64


class Mode(StrEnum):
    """What becomes of the requests that meet the release on trial."""

    CANARY = "canary"  # it answers them
    SHADOW = "shadow"  # the active one answers; it ranks them too, and the difference is written down


@dataclass(frozen=True, slots=True)
class Trial:
    """One release beside the active one."""

    release: str
    mode: Mode
    share: float  # of the keys, within [0, 1]
    salt: str  # of the hash: trials of one salt meet the same users, those of different salts independent ones
    started: str  # RFC 3339, UTC


def key_of(request: RankRequest) -> str:
    """By what a request is chosen: its user, so that one user sees one release; else its session, else itself."""
    return request.user_id or request.session_id or request.request_id


def tried(trial: Trial, key: str) -> bool:
    """Whether requests with this key meet the release on trial: `share` of all keys do, and stay in it while the share rises.

    Args:
        trial: its salt and share decide.
        key: as `key_of`.
    """
    return _hash(trial.salt, "tried", key) < int(trial.share * _RANGE)


def unit_of(trial: Trial, key: str) -> int:
    """Which of the `UNITS` parts of all users a key belongs to, whether tried or not: what intervals are drawn over.

    Requests of one user are not independent, and a unit keeps them together without saying whose they are.
    """
    return _hash(trial.salt, "unit", key) % UNITS


def _hash(salt: str, purpose: str, key: str) -> int:
    """64 bits, equal on every machine and in every process; independent for different salts and purposes."""
    text = "\0".join((purpose, salt, key))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"longtail.trial").digest(), "little")
