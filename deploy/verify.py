"""Is a release what its manifest says? What the manifest alone can tell, and what Triton says of the versions it serves.

Changes nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

from deploy.triton import repository, runtime
from deploy.triton.client import TritonClient, TritonRefused
from ranking.errors import InvalidRelease
from ranking.features import schema_hash
from ranking.release import Member, Release, TensorSpec

_MODEL_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}$")  # it becomes a directory


def manifest(release: Release) -> None:
    """What the manifest alone can tell and its parser does not.

    Raises:
        InvalidRelease: naming the key that is wrong.
    """
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


def served(client: TritonClient, release: Release, folder: Path) -> None:
    """Check every member of `release` on its pinned version as Triton serves it now, by the tolerance of the variant it runs in.

    Args:
        client: of the server.
        release: loaded on it.
        folder: the server's model repository, which says which variants it was given.

    Raises:
        InvalidRelease: naming the member and what is wrong.
        Unavailable: Triton did not answer.
    """
    for i, member in enumerate(release.members):
        variant = repository.placed_variant(folder, member.model, member.version)
        _verify_member(client, f"members[{i}] ({member.name})", member, runtime.tolerance(member, variant))


def _verify_member(client: TritonClient, key: str, member: Member, atol: float) -> None:
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
    problem = runtime.golden_error(member, got, atol)
    if problem:
        raise InvalidRelease(f"{key}.golden", f"{name}: {problem}")


def _by_name(spec: TensorSpec) -> str:
    return spec.name
