"""Releases nobody needs any more, out of the store: oldest first, never one that requests or a rollback may name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy import lifecycle, store
from deploy.files import locked
from ranking.errors import InvalidRelease
from ranking.layout import Layout

_GOING = ".deleting-"  # no release's name starts with a dot, so a reader meets a whole release or none


@dataclass(frozen=True, slots=True)
class Freed:
    """One release that was removed."""

    release: str
    created: str
    freed: int  # bytes; what is shared with another release by hard links stays


def collect(layout: Layout, keep: int) -> list[Freed]:
    """Remove every release that is neither active, nor the one to roll back to, on trial, or left by the pointer's last move.

    The one with the highest model version stays as well: the next release's version is one more, and a number that is given twice would
    find the scores of another model in the gateways' caches. Of the others the newest `keep` stay: releases not yet active are among
    them, and those further back in the history. One whose manifest cannot be read stays too, as do publications under way, which have no
    manifest under their name yet. What goes is taken out of the history first.

    Args:
        layout: the state directory.
        keep: how many to keep beyond those that are needed.

    Returns:
        What was removed, oldest first.

    Raises:
        ValueError: `keep` is negative.
        InvalidRelease: the pointer is missing or damaged, so that nobody can tell what is needed; nothing was removed.
    """
    if keep < 0:
        raise ValueError(f"keep: must not be negative, got {keep}")
    releases = layout.releases
    with locked(lifecycle.lock_of(layout)):
        for rest in releases.glob(f"{_GOING}*"):  # of a run that was killed
            shutil.rmtree(rest)
        now = store.pointer(releases)
        if now is None:
            raise InvalidRelease(store.POINTER, "names no active release: nobody can tell which are needed")
        readable = [row for row in store.list_releases(releases) if not row.problem]
        needed = {*lifecycle.kept(now), *store.left(releases)}
        highest = _highest(releases, [row.id for row in readable])
        if highest and not needed & set(highest):
            needed.add(highest[-1])
        others = [row for row in readable if row.id not in needed]
        going = others[: max(len(others) - keep, 0)]
        store.without(releases, [row.id for row in going])
        return [Freed(row.id, row.created, _remove(releases, row.id)) for row in going]


def _highest(releases: Path, ids: Sequence[str]) -> list[str]:
    """Those with the highest model version: several where policies alone differ."""
    versions = {i: max(member.version for member in store.read_manifest(releases, i).members) for i in ids}
    return [i for i in ids if versions[i] == max(versions.values())]


def _remove(releases: Path, release_id: str) -> int:
    """Remove one release directory; returns the bytes it alone held."""
    going = releases / f"{_GOING}{release_id}"
    (releases / release_id).rename(going)
    alone = sum(stat.st_size for path in going.rglob("*") if path.is_file() and (stat := path.stat()).st_nlink == 1)
    shutil.rmtree(going)
    return alone
