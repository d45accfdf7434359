"""New fairness policies without new models: a release that differs from another in nothing but its policies.

A release is immutable, so a policy is changed by publishing a release beside it, with the same files (hard links where possible) and the
same model versions. Activating it loads nothing, and gateways switch as with any release: a request sees the old policies or the new ones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy import lifecycle, store
from deploy.files import write_atomically
from ranking.errors import InvalidRelease, LongtailError, Superseded, UnknownName
from ranking.fairness.policy import FairnessPolicy
from ranking.layout import Layout
from ranking.release import MANIFEST, Release
from ranking.types import Surface

_ATTEMPTS = 5
_DERIVED = re.compile(r"-p\d+$")


def read(path: Path) -> tuple[FairnessPolicy, ...]:
    """The policies of a JSON file: one object, or a list of them.

    Raises:
        InvalidRelease: naming the file and the key that is wrong.
        FileNotFoundError: there is no such file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as wrong:
        raise InvalidRelease(path.name, f"is not JSON: {wrong}") from None
    entries = data if isinstance(data, list) else [data]
    policies = tuple(_parse(f"{path.name}[{i}]" if isinstance(data, list) else path.name, entry) for i, entry in enumerate(entries))
    names = [p.name for p in policies]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InvalidRelease(f"{path.name}[{i}].name", f"{name!r} is there twice")
    if not policies:
        raise InvalidRelease(path.name, "holds no policy")
    return policies


def merged(base: Release, policies: Sequence[FairnessPolicy], active: Mapping[Surface, str]) -> Release:
    """`base` with these policies added, those of the same name replaced, and `active` made the default of its surfaces.

    Args:
        base: whose models, blends and other policies stay.
        policies: new ones.
        active: surface -> policy name.

    Raises:
        InvalidRelease: naming the policy: changed without a new version, or not one the release can follow.
        UnknownName: `active` names a policy that is not there.
    """
    together = dict(base.policies)
    for policy in policies:
        old = together.get(policy.name)
        if old is not None and old != policy and old.version == policy.version:
            raise InvalidRelease(
                f"{policy.name}.version", f"{policy.version!r} is in use with another content: a change needs a new version"
            )
        together[policy.name] = policy
    for surface, name in active.items():
        if name not in together:
            raise UnknownName(f"active_policy.{surface}", name, list(together))
    draft = replace(base, policies=together, active_policy={**base.active_policy, **active})
    return Release.from_json(draft.to_json())  # the manifest's own rules


def publish(releases: Path, release: Release) -> Release:
    """Write `release`, the merged one, into the store under an id of its own; nobody serves it before it is activated.

    Args:
        releases: the store.
        release: a release of the store (by its id, whose files are taken over) with other policies.

    Raises:
        UnknownName, InvalidRelease: the release it is made from is not there or not whole.
    """
    source = releases / store.read(releases, release.id).id
    root = _DERIVED.sub("", release.id)
    draft = releases / f".publishing-{root}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, copy_function=_link, ignore=shutil.ignore_patterns(MANIFEST))
    try:
        while True:
            number = 1 + max((int(p.name.rpartition("-p")[2]) for p in releases.glob(f"{root}-p*") if _DERIVED.search(p.name)), default=0)
            made = replace(
                release,
                id=f"{root}-p{number}",
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                lineage={**release.lineage, "policies_changed_from": release.id},
            )
            write_atomically(draft / MANIFEST, json.dumps(made.to_json(), indent=1, allow_nan=False) + "\n")
            try:
                draft.rename(releases / made.id)
            except OSError:
                if not (releases / made.id).exists():
                    raise
                continue  # somebody else took the number: take the next
            break
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    handle = os.open(releases, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return made


def apply(layout: Layout, policies: Sequence[FairnessPolicy], active: Mapping[Surface, str], address: str) -> Release:
    """Give the active release these policies and activate that. Where another release becomes active meanwhile, it gets them.

    Args:
        layout: the state directory.
        policies: as in `merged`.
        active: as in `merged`.
        address: host:port of Triton's gRPC endpoint.

    Raises:
        UnknownName, InvalidRelease, Unavailable: as `merged` and `lifecycle.activate`; the active release is untouched.
        Superseded: again and again.
    """
    for attempt in range(_ATTEMPTS):
        base = store.active(layout.releases)
        if base is None:
            raise InvalidRelease(store.POINTER, "names no release whose policies could be changed")
        made = publish(layout.releases, merged(store.read_manifest(layout.releases, base), policies, active))
        try:
            return lifecycle.activate(layout, made.id, address, instead_of=base)
        except LongtailError as problem:
            shutil.rmtree(layout.releases / made.id)  # it never took traffic
            if not isinstance(problem, Superseded) or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _parse(key: str, entry: Any) -> FairnessPolicy:
    try:
        return FairnessPolicy.from_json(entry)
    except KeyError as absent:
        raise InvalidRelease(f"{key}.{absent.args[0]}", "is missing") from None
    except ValueError as wrong:
        raise InvalidRelease(key, str(wrong)) from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem, or one without hard links
        shutil.copyfile(source, target)
