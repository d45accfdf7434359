"""Publish, load, verify, activate: how a release comes to take traffic, and how it never does when something is wrong with it.

The order is fixed: version directories are written, Triton loads them beside the versions already served, each pinned version is
checked (index, readiness, metadata, golden outputs), and only then does the pointer move. Whatever fails before that leaves Triton
serving what it served and the pointer where it was. One process at a time does this (a lock under the state directory).

Gateways learn of a move of the pointer a little later and pin what it left until then. So that stays loaded whichever way the pointer
moved, until it moves again, and it does not move again before everyone has noticed.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy import store, verify
from deploy.files import locked
from deploy.triton import repository, runtime, target
from deploy.triton.client import TritonClient, TritonRefused
from ranking.errors import InvalidRelease, LongtailError, Superseded, Unavailable, UnknownName
from ranking.layout import Layout
from ranking.pointer import Pointer
from ranking.release import Member, Release

KEEP_PREVIOUS = 1  # releases kept loaded behind the active one, so that a rollback needs no loading
_NOTICE_S = 1.0  # after which every gateway has noticed that the pointer moved: some of their polls of 0.25 s
_log = logging.getLogger(__name__)


def activate(layout: Layout, release_id: str, address: str, *, instead_of: str | None = None) -> Release:
    """Load `release_id` on the running Triton, verify it, and make it the active release, which ends a trial.

    Afterwards the release that was active stays loaded, older ones are unloaded. Should that fail, the activation still stands: it is
    logged, and the next activation or reconciliation clears away.

    Args:
        layout: the state directory.
        release_id: a release of the store; activating it also repairs a damaged pointer.
        address: host:port of Triton's gRPC endpoint.
        instead_of: the release that must be the active one until then, for one made from it; None: whichever is.

    Raises:
        UnknownName: the store holds no such release.
        InvalidRelease: naming what is wrong; the active release is untouched.
        Superseded: another release than `instead_of` became active meanwhile; it stays so.
        Unavailable: Triton did not answer; the active release is untouched.
    """
    with turn(layout, address) as client:
        if instead_of is not None and (active := store.active(layout.releases)) != instead_of:
            raise Superseded(instead_of, active)
        return make_active(layout, client, release_id)


def rollback(layout: Layout, address: str) -> Release:
    """Make the release before the active one active again: verified like any other, usually loaded already. Ends a trial.

    The release rolled back from stays loaded until the pointer moves again.

    Raises:
        InvalidRelease: there is no earlier release, or it no longer verifies.
        UnknownName: the earlier release is no longer in the store.
        Unavailable: Triton did not answer.
    """
    with turn(layout, address) as client:
        release = bring_up(layout, client, store.rollback_target(layout.releases))
        store.rollback(layout.releases)
        clear_away(layout, client)
    return release


def reconcile(layout: Layout, address: str, *, otherwise: str | None = None) -> Release | None:
    """Bring Triton, whatever it serves now, to the desired state: the active release, those kept behind it and the one on trial, verified.

    A kept release that no longer verifies is reported and left out; it takes no traffic: were it on trial, its trial ends. What the
    pointer left last stays where it is still loaded, but is not loaded for its own sake: what pinned it did not outlive the server it was
    loaded on.

    Args:
        layout: the state directory.
        address: host:port of Triton's gRPC endpoint.
        otherwise: the release that was served so far, which is the one to serve where the pointer is missing.

    Returns:
        The active release, else `otherwise`; None where nothing was ever activated.

    Raises:
        InvalidRelease, UnknownName: the active release or the pointer is damaged.
        Unavailable: Triton did not answer.
    """
    with locked(lock_of(layout)), TritonClient(address) as client:
        wanted, active = _wanted(layout) or ([otherwise] if otherwise else []), None
        for rank, release_id in enumerate(wanted):
            try:
                release = bring_up(layout, client, release_id)
                active = active or release
            except (InvalidRelease, UnknownName) as wrong:
                if rank == 0:
                    raise
                if not _end_trial_of(layout, release_id, wrong):
                    _log.warning("release %s is no longer there to roll back to: %s", release_id, wrong)
        _retire(layout, client)
    return active


@contextmanager
def turn(layout: Layout, address: str) -> Iterator[TritonClient]:
    """The one who moves the pointer or loads models, once everyone has noticed the pointer's last move."""
    with locked(lock_of(layout)), TritonClient(address) as client:
        _settle(layout)
        yield client


def make_active(layout: Layout, client: TritonClient, release_id: str) -> Release:
    """The part of `activate` that needs the `turn`."""
    release = bring_up(layout, client, release_id)
    store.activate(layout.releases, release_id)
    clear_away(layout, client)
    return release


def check(layout: Layout, release_id: str, address: str) -> Release:
    """Verify a release without moving any traffic: files, digests, manifest, schema, and its golden requests on Triton.

    What is meant to be served already is asked as it stands. Any other is loaded beside it and taken away again.

    Args:
        layout: the state directory.
        release_id: a release of the store.
        address: host:port of Triton's gRPC endpoint.

    Raises:
        UnknownName: the store holds no such release.
        InvalidRelease: naming what is wrong.
        Unavailable: Triton did not answer.
    """
    with turn(layout, address) as client:
        now, _ = store.look(layout.releases)
        if release_id in kept(now):
            release = store.read(layout.releases, release_id)
            verify.manifest(release)
            verify.served(client, release, layout.triton_repository)
        else:
            release = bring_up(layout, client, release_id)
            clear_away(layout, client)
    return release


def bring_up(layout: Layout, client: TritonClient, release_id: str) -> Release:
    """Load and verify one release beside what is served; when it is wrong, take back what was loaded of it."""
    release = store.read(layout.releases, release_id)
    verify.manifest(release)
    _mend(layout)
    served = _served(client)
    _, damaged = store.look(layout.releases)  # only a pointer that can be read tells what may make way
    if not damaged and any(_clash(layout, m, {v for model, v in served if model == m.model}) for m in release.members):
        _retire(layout, client, left=False)  # nobody rolls back to what the pointer left, so it makes way
        served = _served(client)
    try:
        _load_and_verify(layout, client, release)
    except InvalidRelease as wrong:
        if not served & {(m.model, m.version) for m in release.members}:
            raise
        # What was loaded long ago may have died since, and Triton goes on calling it READY: it gets one fresh start.
        _log.warning("release %s was loaded and no longer verifies, loading it anew: %s", release_id, wrong)
        _load_and_verify(layout, client, release)
    return release


def _load_and_verify(layout: Layout, client: TritonClient, release: Release) -> None:
    served = _served(client)
    try:
        for i, member in enumerate(release.members):
            _load(layout, client, release, i, {v for model, v in served if model == member.model})
        verify.served(client, release, layout.triton_repository)
    except InvalidRelease as wrong:  # proven wrong: it loses what it has loaded, wanted or not
        _end_trial_of(layout, release.id, wrong)
        clear_away(layout, client, without=release.id)
        raise
    except LongtailError:  # it could not be asked: it keeps what it had
        clear_away(layout, client)
        raise
    except OSError as full:
        clear_away(layout, client)
        raise Unavailable(f"{layout.triton_repository}: release {release.id} could not be written there: {full}") from full


def _end_trial_of(layout: Layout, release_id: str, wrong: LongtailError) -> bool:
    """End the trial where it is this release's, which is not served: no gateway is to send it requests. Whether it was."""
    now, _ = store.look(layout.releases)
    if now is None or now.trial is None or now.trial.release != release_id:
        return False
    _log.error("the trial of release %s ends: %s", release_id, wrong)
    store.end_trial(layout.releases, f"the trial of {release_id} was ended: {wrong}")
    return True


def _served(client: TritonClient) -> set[tuple[str, int]]:
    return {version for version, seen in client.index().items() if seen.state == "READY"}


def _settle(layout: Layout) -> None:
    """Wait until everyone has noticed the pointer's last move: after the next one, what that one left may be unloaded."""
    try:
        age = time.time() - layout.pointer.stat().st_mtime
    except FileNotFoundError:
        return
    time.sleep(min(max(_NOTICE_S - age, 0.0), _NOTICE_S))


def clear_away(layout: Layout, client: TritonClient, *, without: str | None = None) -> None:
    """`_retire` where the outcome is settled already, an error on its way or the pointer moved: whatever happens here is logged only."""
    try:
        _retire(layout, client, without=without)
    except (LongtailError, OSError) as problem:
        _log.warning("could not clear away what is not wanted, the next activation or reconciliation will: %s", problem)


def _mend(layout: Layout) -> None:
    """Place torn version directories of the wanted releases anew: Triton loads them again with whatever is loaded next of their model."""
    now, _ = store.look(layout.releases)  # a damaged one tells of nothing to mend, and is itself mended by an activation
    for release_id in kept(now):
        try:
            members = store.read_manifest(layout.releases, release_id).members
            if any(repository.torn(layout.triton_repository, member) for member in members):
                release = store.read(layout.releases, release_id)
                for i in range(len(members)):
                    _place(layout, release, i)
        except (InvalidRelease, UnknownName) as wrong:
            _log.warning("release %s cannot be placed anew: %s", release_id, wrong)


def _clash(layout: Layout, member: Member, served: set[int]) -> InvalidRelease | None:
    """Why `member` cannot be served beside the `served` versions of its model; None where it can."""
    there = repository.placed_digest(layout.triton_repository, member.model, member.version)
    if member.version in served and there not in ("", member.sha256):
        return InvalidRelease("version", f"version {member.version} of {member.model} is served and is another model (sha256 {there})")
    if served and repository.conflict(layout.triton_repository, member):
        return InvalidRelease(
            "model",
            f"{member.model} is served with other inputs or another output, which a model's versions share: give the new one another name",
        )
    return None


def _load(layout: Layout, client: TritonClient, release: Release, i: int, served: set[int]) -> None:
    member, key = release.members[i], f"members[{i}] ({release.members[i].name})"
    clash = _clash(layout, member, served)
    if clash:
        raise InvalidRelease(f"{key}.{clash.key}", clash.reason)
    _place(layout, release, i)
    _configure(layout, release.id, member, served | {member.version})
    try:
        client.load(member.model)
    except TritonRefused as refused:
        reason = client.index().get((member.model, member.version))
        raise InvalidRelease(f"{key}.model", reason.reason if reason and reason.reason else str(refused)) from None


def _place(layout: Layout, release: Release, i: int) -> None:
    member = release.members[i]
    directory = layout.releases / release.id
    try:
        written_for = target.read(layout.triton_target)
        choice = runtime.choose(member, directory, layout.triton_server.parent / "runtimes.json", runtime.host(), written_for)
    except InvalidRelease as wrong:
        raise InvalidRelease(f"members[{i}] ({member.name}).{wrong.key}", wrong.reason) from None
    repository.place(layout.triton_repository, member, directory / runtime.file_of(member, choice.variant), choice, written_for)


def _configure(layout: Layout, release_id: str, member: Member, versions: set[int]) -> None:
    written_for = target.read(layout.triton_target)
    own = written_for.backend == target.ONNXRUNTIME
    scalar = own and runtime.gives_scalars(layout.releases / release_id / member.path, member.output)
    repository.configure(layout.triton_repository, member, versions, written_for, scalar=scalar)


def _wanted(layout: Layout) -> list[str]:
    """Ids of the releases that should be loaded, the active one first."""
    return kept(store.pointer(layout.releases))


def kept(now: Pointer | None) -> list[str]:
    """Ids of the releases that a pointer keeps loaded, the active one first, the one on trial last; each once."""
    if now is None:
        return []
    return list(dict.fromkeys([now.release, *now.previous[:KEEP_PREVIOUS], *([now.trial.release] if now.trial else [])]))


def _retire(layout: Layout, client: TritonClient, *, without: str | None = None, left: bool = True) -> None:
    """Unload and delete every version that no release needs: the wanted ones and, with `left`, those that the pointer left, without the
    release `without`.

    A missing pointer may have been lost, and gateways serve on what it named: then whatever is served of the store's releases stays.
    """
    served, folder = _served(client), layout.triton_repository
    keep: dict[str, dict[int, tuple[str, Member]]] = defaultdict(dict)
    wanted, last = _wanted(layout), store.left(layout.releases) if left else ()
    spared = last if last or wanted else [row.id for row in store.list_releases(layout.releases)]
    for release_id in dict.fromkeys([*wanted, *spared]):
        if release_id == without:
            continue
        try:
            members = store.read_manifest(layout.releases, release_id).members
        except (InvalidRelease, UnknownName) as wrong:
            _log.warning("release %s cannot be read: %s", release_id, wrong)
            continue
        for member in members:
            there = (member.model, member.version) in served
            if not wanted:  # any release of the store may share a version's number, the served one shares its digest
                there = there and repository.placed_digest(folder, member.model, member.version) == member.sha256
            if release_id in wanted or there:
                keep[member.model].setdefault(member.version, (release_id, member))
    for model in repository.models(folder):
        configured = repository.configured(folder, model)
        have = configured | {v for name, v in served if name == model}  # more than is configured where the configuration was lost
        stay = have & set(keep[model])
        if stay and not stay == have == configured:
            # Written anew from a kept manifest, the active release's first: a refused one may have left its own inputs or output there.
            release_id, member = next(kept for v, kept in keep[model].items() if v in stay)
            _configure(layout, release_id, member, stay)
            client.load(model)
        elif not stay and have:
            client.unload(model)
        repository.remove(folder, model, stay)


def lock_of(layout: Layout) -> Path:
    """The file whose lock is held by the one who moves the pointer, loads models or removes releases."""
    return layout.triton_repository.with_name("lock")
