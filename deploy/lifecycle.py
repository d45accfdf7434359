"""Publish, load, verify, activate: how a release comes to take traffic, and how it never does when something is wrong with it.

The order is fixed: version directories are written, Triton loads them beside the versions already served, each pinned version is
checked (index, readiness, metadata, golden outputs), and only then does the pointer move. Whatever fails before that leaves Triton
serving what it served and the pointer where it was. One process at a time does this (a lock under the state directory).

Gateways learn of a move of the pointer a little later and pin the release it left until then. So that release stays loaded whichever
way the pointer moved, until it moves again, and it does not move again before everyone has noticed.
"""

from __future__ import annotations

import logging
import re
import time
from collections import defaultdict
from pathlib import Path

from deploy import store
from deploy.files import locked
from deploy.triton import repository, runtime
from deploy.triton.client import TritonClient, TritonRefused
from ranking.errors import InvalidRelease, LongtailError, Superseded, UnknownName
from ranking.features import schema_hash
from ranking.layout import Layout
from ranking.pointer import Pointer
from ranking.release import Member, Release, TensorSpec

KEEP_PREVIOUS = 1  # releases kept loaded behind the active one, so that a rollback needs no loading
_NOTICE_S = 1.0  # after which every gateway has noticed that the pointer moved: some of their polls of 0.25 s
_MODEL_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}$")  # it becomes a directory
_log = logging.getLogger(__name__)


def activate(layout: Layout, release_id: str, address: str, *, instead_of: str | None = None) -> Release:
    """Load `release_id` on the running Triton, verify it, and make it the active release.

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
    with locked(_lock(layout)), TritonClient(address) as client:
        _settle(layout)
        if instead_of is not None and (active := store.active(layout.releases)) != instead_of:
            raise Superseded(instead_of, active)
        release = _bring_up(layout, client, release_id)
        store.activate(layout.releases, release_id)
        _clear_away(layout, client)
    return release


def rollback(layout: Layout, address: str) -> Release:
    """Make the release before the active one active again: verified like any other, usually loaded already.

    The release rolled back from stays loaded until the pointer moves again.

    Raises:
        InvalidRelease: there is no earlier release, or it no longer verifies.
        UnknownName: the earlier release is no longer in the store.
        Unavailable: Triton did not answer.
    """
    with locked(_lock(layout)), TritonClient(address) as client:
        _settle(layout)
        release = _bring_up(layout, client, store.rollback_target(layout.releases))
        store.rollback(layout.releases)
        _clear_away(layout, client)
    return release


def reconcile(layout: Layout, address: str, *, otherwise: str | None = None) -> Release | None:
    """Bring Triton, whatever it serves now, to the desired state: the active release and the ones kept behind it, verified.

    A kept release that no longer verifies is reported and left out; it takes no traffic. The one that the pointer left last stays where
    it is still loaded, but is not loaded for its own sake: what pinned it did not outlive the server it was loaded on.

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
    with locked(_lock(layout)), TritonClient(address) as client:
        wanted, active = _wanted(layout) or ([otherwise] if otherwise else []), None
        for rank, release_id in enumerate(wanted):
            try:
                release = _bring_up(layout, client, release_id)
                active = active or release
            except (InvalidRelease, UnknownName) as wrong:
                if rank == 0:
                    raise
                _log.warning("release %s is no longer there to roll back to: %s", release_id, wrong)
        _retire(layout, client)
    return active


def verify(client: TritonClient, release: Release) -> None:
    """Check every member of `release` on its pinned version as Triton serves it now.

    Raises:
        InvalidRelease: naming the member and what is wrong.
        Unavailable: Triton did not answer.
    """
    for i, member in enumerate(release.members):
        _verify_member(client, f"members[{i}] ({member.name})", member)


def _bring_up(layout: Layout, client: TritonClient, release_id: str) -> Release:
    """Load and verify one release beside what is served; when it is wrong, take back what was loaded of it."""
    release = store.read(layout.releases, release_id)
    _check_manifest(release)
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
        verify(client, release)
    except LongtailError as problem:
        # A release proven wrong loses what it has loaded, wanted or not; one that could not be asked keeps what it had.
        _clear_away(layout, client, without=release.id if isinstance(problem, InvalidRelease) else None)
        raise


def _served(client: TritonClient) -> set[tuple[str, int]]:
    return {version for version, seen in client.index().items() if seen.state == "READY"}


def _settle(layout: Layout) -> None:
    """Wait until everyone has noticed the pointer's last move: after the next one, what that one left may be unloaded."""
    try:
        age = time.time() - layout.pointer.stat().st_mtime
    except FileNotFoundError:
        return
    time.sleep(min(max(_NOTICE_S - age, 0.0), _NOTICE_S))


def _clear_away(layout: Layout, client: TritonClient, *, without: str | None = None) -> None:
    """`_retire` where the outcome is settled already, an error on its way or the pointer moved: whatever happens here is logged only."""
    try:
        _retire(layout, client, without=without)
    except (LongtailError, OSError) as problem:
        _log.warning("could not clear away what is not wanted, the next activation or reconciliation will: %s", problem)


def _mend(layout: Layout) -> None:
    """Place torn version directories of the wanted releases anew: Triton loads them again with whatever is loaded next of their model."""
    now, _ = store.look(layout.releases)  # a damaged one tells of nothing to mend, and is itself mended by an activation
    for release_id in _kept(now):
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
    repository.configure(layout.triton_repository, member, served | {member.version})
    try:
        client.load(member.model)
    except TritonRefused as refused:
        reason = client.index().get((member.model, member.version))
        raise InvalidRelease(f"{key}.model", reason.reason if reason and reason.reason else str(refused)) from None


def _place(layout: Layout, release: Release, i: int) -> None:
    member = release.members[i]
    model = layout.releases / release.id / member.path
    try:
        choice = runtime.choose(member, model, layout.triton_server.parent / "runtimes.json", runtime.host())
    except InvalidRelease as wrong:
        raise InvalidRelease(f"members[{i}] ({member.name}).{wrong.key}", wrong.reason) from None
    repository.place(layout.triton_repository, member, model, choice)


def _check_manifest(release: Release) -> None:
    """What the manifest alone can tell and its parser does not."""
    if release.feature_schema_hash != schema_hash():
        raise InvalidRelease("feature_schema_hash", f"trained on {release.feature_schema_hash}, this code computes {schema_hash()}")
    seen: set[tuple[str, int]] = set()
    for i, member in enumerate(release.members):
        key = f"members[{i}] ({member.name})"
        if not _MODEL_NAME.match(member.model):
            raise InvalidRelease(f"{key}.model", f"must match {_MODEL_NAME.pattern}, got {member.model!r}")
        if (member.model, member.version) in seen:
            raise InvalidRelease(f"{key}.version", f"version {member.version} of {member.model} is named twice")
        seen.add((member.model, member.version))
        if not member.golden.outputs:
            raise InvalidRelease(f"{key}.golden.outputs", "need at least one: a model without an expected output cannot be verified")
        try:
            runtime.golden_arrays(member.golden.inputs, member.inputs)
        except InvalidRelease as wrong:
            raise InvalidRelease(f"{key}.{wrong.key}", wrong.reason) from None


def _verify_member(client: TritonClient, key: str, member: Member) -> None:
    """Four questions, because a load that returned proves nothing: index, readiness, metadata, golden outputs."""
    name = f"version {member.version} of {member.model}"
    seen = client.index().get((member.model, member.version))
    if seen is None or seen.state != "READY":
        raise InvalidRelease(
            f"{key}.version", f"{name} is {seen.state if seen else 'unknown'} after loading: {seen.reason if seen else ''}"
        )
    if not client.model_ready(member.model, member.version):
        raise InvalidRelease(f"{key}.version", f"{name} is not ready after loading")
    signature = client.signature(member.model, member.version)
    if sorted(signature.inputs, key=_by_name) != sorted(member.inputs, key=_by_name):
        raise InvalidRelease(f"{key}.inputs", f"{name} takes {signature.inputs}, the manifest says {member.inputs}")
    if [t.name for t in signature.outputs] != [member.output]:
        raise InvalidRelease(f"{key}.output", f"{name} gives {[t.name for t in signature.outputs]}, the manifest says {member.output!r}")
    try:
        got = client.infer(member.model, member.version, runtime.golden_arrays(member.golden.inputs, member.inputs), member.output)
    except TritonRefused as refused:
        raise InvalidRelease(f"{key}.golden", f"{name} failed: {refused}") from None
    problem = runtime.golden_error(member, got)
    if problem:
        raise InvalidRelease(f"{key}.golden", f"{name}: {problem}")


def _wanted(layout: Layout) -> list[str]:
    """Ids of the releases that should be loaded, the active one first."""
    return _kept(store.pointer(layout.releases))


def _kept(now: Pointer | None) -> list[str]:
    return [now.release, *now.previous[:KEEP_PREVIOUS]] if now else []


def _retire(layout: Layout, client: TritonClient, *, without: str | None = None, left: bool = True) -> None:
    """Unload and delete every version that no release needs: the wanted ones and, with `left`, the one that the pointer left, without
    the release `without`.

    A missing pointer may have been lost, and gateways serve on what it named: then whatever is served of the store's releases stays.
    """
    served, folder = _served(client), layout.triton_repository
    keep: dict[str, dict[int, Member]] = defaultdict(dict)
    wanted, last = _wanted(layout), store.left(layout.releases) if left else None
    spared = [last] if last else [] if wanted else [row.id for row in store.list_releases(layout.releases)]
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
                keep[member.model].setdefault(member.version, member)
    for model in repository.models(folder):
        configured = repository.configured(folder, model)
        have = configured | {v for name, v in served if name == model}  # more than is configured where the configuration was lost
        stay = have & set(keep[model])
        if stay and not stay == have == configured:
            # Written anew from a kept manifest, the active release's first: a refused one may have left its own inputs or output there.
            repository.configure(folder, next(m for v, m in keep[model].items() if v in stay), stay)
            client.load(model)
        elif not stay and have:
            client.unload(model)
        repository.remove(folder, model, stay)


def _by_name(spec: TensorSpec) -> str:
    return spec.name


def _lock(layout: Layout) -> Path:
    return layout.triton_repository.with_name("lock")
