"""The release store: a directory of immutable release directories and the pointer that names the active one.

Reading a release verifies every file it names. Knows nothing of Triton: `deploy.lifecycle` decides when the pointer may move.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.files import write_atomically
from ranking.errors import InvalidRelease, UnknownName
from ranking.pointer import Pointer, pointer_text, read_pointer, read_trial
from ranking.release import MANIFEST, Release
from ranking.trial import Trial

POINTER = "ACTIVE"
_LEFT, _ENDED = "left", "trial_ended"  # keys of the pointer file that only this room reads
HISTORY = 20  # releases kept in the pointer: more than anyone rolls back, little enough to read
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `list_releases`."""

    id: str
    created: str  # RFC 3339; empty where the manifest cannot be read
    active: bool
    problem: str  # why the manifest cannot be read; empty where it can


def read(store: Path, release_id: str) -> Release:
    """Read a release and verify the digest of every file its manifest names. O(bytes of the release).

    Raises:
        UnknownName: the store holds no such release.
        InvalidRelease: naming the manifest key or the file that is wrong.
    """
    release = read_manifest(store, release_id)
    for key, path, sha256 in files(release):
        _verify(store / release_id, key, path, sha256)
    return release


def files(release: Release) -> Iterator[tuple[str, str, str]]:
    """Every file that a manifest names: its key there, its path in the release directory, its digest."""
    yield "tokenizer", release.tokenizer.path, release.tokenizer.sha256
    for i, member in enumerate(release.members):
        yield f"members[{i}]", member.path, member.sha256
        for variant in member.variants.served:
            if variant.path != member.path:
                yield f"members[{i}].variants.{variant.name}", variant.path, variant.sha256
        if member.explainer is not None:
            yield f"members[{i}].explainer", member.explainer.path, member.explainer.sha256


def read_manifest(store: Path, release_id: str) -> Release:
    """Read and check a release's manifest alone, without looking at the files it names.

    Raises:
        UnknownName: the store holds no such release.
        InvalidRelease: naming the key that is wrong.
    """
    known = _ids(store)
    if release_id not in known:
        raise UnknownName("release", release_id, known)
    return parsed((store / release_id / MANIFEST).read_bytes(), release_id, "the directory is named")


def parsed(manifest: bytes, release_id: str, named: str) -> Release:
    """Check a manifest's content.

    Args:
        manifest: JSON.
        release_id: what it must call itself,
        named: because of this; for the message.

    Raises:
        InvalidRelease: naming the key that is wrong.
    """
    try:
        data = json.loads(manifest)
    except ValueError as wrong:
        raise InvalidRelease(MANIFEST, f"is not JSON: {wrong}") from None
    if not isinstance(data, dict):
        raise InvalidRelease(MANIFEST, "must be an object")
    release = Release.from_json(data)
    if release.id != release_id:
        raise InvalidRelease("id", f"is {release.id!r} but {named} {release_id!r}")
    return release


def list_releases(store: Path) -> list[Listed]:
    """Every release of the store, oldest first; one whose manifest cannot be read is listed with its problem.

    Where the pointer is damaged none is the active one: whoever repairs it has to see what there is.
    """
    now, _ = look(store)
    current = now.release if now else None
    rows = []
    for release_id in _ids(store):
        try:
            rows.append(Listed(release_id, read_manifest(store, release_id).created, release_id == current, ""))
        except InvalidRelease as wrong:
            rows.append(Listed(release_id, "", release_id == current, str(wrong)))
    return sorted(rows, key=lambda row: (row.created, row.id))


def pointer(store: Path) -> Pointer | None:
    """What the pointer file says, None where nothing was ever activated.

    Raises:
        InvalidRelease: naming the file, which is not a pointer.
    """
    try:
        return read_pointer((store / POINTER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as wrong:
        raise InvalidRelease(POINTER, f"is not UTF-8: {wrong}") from None
    except InvalidRelease as wrong:
        raise InvalidRelease(wrong.key if wrong.key == POINTER else f"{POINTER}.{wrong.key}", wrong.reason) from None


def look(store: Path) -> tuple[Pointer | None, str]:
    """The pointer and what is wrong with its file (empty where nothing is), for those who go on without one."""
    try:
        return pointer(store), ""
    except InvalidRelease as wrong:
        return None, str(wrong)


def active(store: Path) -> str | None:
    """The active release's id, None where nothing was ever activated."""
    now = pointer(store)
    return now.release if now else None


def trial_problem(store: Path) -> str:
    """Why the pointer file's trial cannot be read, or why the last one was ended by the platform itself; empty where neither is so.

    Raises:
        InvalidRelease: the file is not a pointer.
    """
    if pointer(store) is None:
        return ""
    text = (store / POINTER).read_text(encoding="utf-8")
    try:
        read_trial(text)
    except InvalidRelease as wrong:
        return f"{POINTER}.{wrong}"
    ended = json.loads(text).get(_ENDED)
    return ended if isinstance(ended, str) else ""


def left(store: Path) -> tuple[str, ...]:
    """The releases that the pointer's last move left, active or on trial until then: requests under way may still name them.

    After an activation the active one is the first of `previous`; after a rollback it stands nowhere else, since rollback never goes
    there.

    Raises:
        InvalidRelease: the file is not a pointer.
    """
    if pointer(store) is None:
        return ()
    found = json.loads((store / POINTER).read_text(encoding="utf-8")).get(_LEFT)
    return tuple(i for i in (found if isinstance(found, list) else [found]) if isinstance(i, str))


def activate(store: Path, release_id: str) -> Pointer:
    """Point at `release_id`, in one step, which ends a trial; the release that was active becomes the first of `previous`.

    The caller has verified the release. Activating the active release ends the trial and changes nothing else. A damaged pointer is
    written anew: what it said of earlier releases is lost, which is logged.

    Raises:
        UnknownName: the store holds no such release.
    """
    known = _ids(store)
    if release_id not in known:
        raise UnknownName("release", release_id, known)
    now, problem = look(store)
    if problem:
        _log.warning("%s; written anew, there is no earlier release to go back to", problem)
    if now is None:
        return _write(store, Pointer(release_id, now_utc()), left=())
    if now.release == release_id:
        return end_trial(store)
    earlier = tuple(i for i in now.previous if i not in (release_id, now.release))
    return _write(store, Pointer(release_id, now_utc(), (now.release, *earlier)[:HISTORY]), left=_in_use(now))


def rollback_target(store: Path) -> str:
    """The release that `rollback` would point at.

    Raises:
        InvalidRelease: no release was active before the present one.
    """
    now = pointer(store)
    if now is None or not now.previous:
        raise InvalidRelease(f"{POINTER}.previous", "is empty: there is no earlier release to go back to")
    return now.previous[0]


def rollback(store: Path) -> Pointer:
    """Point at the release that was active before the present one; rolling back again goes further back.

    Raises:
        InvalidRelease: no release was active before the present one.
        UnknownName: that release is no longer in the store.
    """
    target, known = rollback_target(store), _ids(store)
    if target not in known:
        raise UnknownName("release", target, known)
    now = pointer(store)
    assert now is not None
    return _write(store, Pointer(target, now_utc(), now.previous[1:]), left=_in_use(now))


def put_on_trial(store: Path, trial: Trial) -> Pointer:
    """Put a release on trial beside the active one, or change its trial's mode and share. The caller has verified it.

    Raises:
        UnknownName: the store holds no such release.
        InvalidRelease: nothing is active, it is the active one, or another one is on trial.
    """
    known, now = _ids(store), pointer(store)
    if trial.release not in known:
        raise UnknownName("release", trial.release, known)
    check_trial(now, trial.release)
    assert now is not None
    return _write(store, replace(now, trial=trial), left=())


def check_trial(now: Pointer | None, release_id: str) -> None:
    """Whether a release may be on trial now.

    Raises:
        InvalidRelease: nothing is active, it is the active one, or another one is on trial.
    """
    if now is None:
        raise InvalidRelease(POINTER, "names no active release for another to be tried beside")
    if now.release == release_id:
        raise InvalidRelease(f"{POINTER}.release", f"{release_id} is the active release already")
    if now.trial is not None and now.trial.release != release_id:
        raise InvalidRelease(f"{POINTER}.trial", f"{now.trial.release} is on trial: end or promote it first")


def end_trial(store: Path, why: str = "") -> Pointer:
    """End the trial, if there is one, or what stands in its place and cannot be read; the active release stays.

    Args:
        store: it.
        why: kept for `trial_problem`, until the pointer moves again.

    Raises:
        InvalidRelease: nothing was ever activated.
    """
    now = pointer(store)
    if now is None:
        raise InvalidRelease(POINTER, "names no active release")
    if now.trial is None and not trial_problem(store):
        return now
    return _write(store, replace(now, trial=None), left=(now.trial.release,) if now.trial else (), ended=why)


def without(store: Path, gone: Collection[str]) -> None:
    """Take releases that are about to be removed out of `previous`: what can be gone back to is there.

    Raises:
        InvalidRelease: the file is not a pointer.
    """
    now = pointer(store)
    if now is None or not set(now.previous) & set(gone):
        return
    previous = tuple(i for i in now.previous if i not in gone)
    _write(store, replace(now, previous=previous), left=left(store), ended=trial_problem(store))


def now_utc() -> str:
    """The instant as the pointer file says it: RFC 3339, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _in_use(now: Pointer) -> tuple[str, ...]:
    """What requests may name under this pointer."""
    return (now.release, now.trial.release) if now.trial else (now.release,)


def _write(store: Path, new: Pointer, *, left: Iterable[str], ended: str = "") -> Pointer:
    """`left` never names what the new pointer has in use: those stay for their own sake."""
    more = {_LEFT: [i for i in left if i not in _in_use(new)]} | ({_ENDED: ended} if ended else {})
    write_atomically(store / POINTER, json.dumps(json.loads(pointer_text(new)) | more) + "\n")
    return new


def _ids(store: Path) -> list[str]:
    """Directories that hold a manifest; a name starting with a dot is a publication in progress."""
    return sorted(p.parent.name for p in store.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))


def _verify(directory: Path, key: str, path: str, sha256: str) -> None:
    try:
        with (directory / path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as wrong:
        raise InvalidRelease(f"{key}.path", f"{path}: {wrong.strerror}") from None
    if found != sha256:
        raise InvalidRelease(f"{key}.sha256", f"{path} has digest {found}, the manifest says {sha256}")
