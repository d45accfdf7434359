"""Version numbers of models. Each store counts for itself, so a release from elsewhere may have a number that is another model's here,
and Triton knows a model by its name and number alone. Writes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from deploy import store
from ranking.errors import InvalidRelease, Unavailable
from ranking.release import Release

PULLED = "pulled_as"  # in the lineage of a renumbered release: what it is called elsewhere


def check(releases: Path, release: Release) -> None:
    """Refuse a release of which a number is another model's here.

    Raises:
        InvalidRelease: naming the member, and the release that has the number.
    """
    for other in _readable(releases):
        taken = {(m.model, m.version): m.sha256 for m in other.members}
        for i, member in enumerate(release.members):
            there = taken.get((member.model, member.version), member.sha256)
            if there != member.sha256:
                raise InvalidRelease(
                    f"members[{i}].version", f"{member.version} of {member.model} is another model here, of release {other.id}; renumber it"
                )


def renumbered(releases: Path, release: Release) -> Release:
    """The same release with a number that no model here has, under a name that says so; where that was done before, what was made then."""
    known = _readable(releases)
    for other in known:
        if other.lineage.get(PULLED) == release.id and re.fullmatch(rf"{re.escape(release.id)}-n\d+", other.id):
            return other
    version = 1 + max((m.version for other in (*known, release) for m in other.members), default=0)
    return replace(
        release,
        id=f"{release.id}-n{version}",
        lineage={**release.lineage, PULLED: release.id},
        members=tuple(replace(member, version=version) for member in release.members),
    )


@contextlib.contextmanager
def held(releases: Path) -> Iterator[None]:
    """Nobody publishes meanwhile: publishers hold the same lock, on the store's directory.

    Raises:
        Unavailable: somebody does.
    """
    handle = os.open(releases, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"{releases}: a publication is under way; pull again when it has ended") from None
        yield
    finally:
        os.close(handle)


def _readable(releases: Path) -> list[Release]:
    return [store.read_manifest(releases, row.id) for row in store.list_releases(releases) if not row.problem]
