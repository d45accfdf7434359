"""A release as a model repository for a Triton of one's own: NVIDIA's container, on whatever machine. Starts and loads nothing."""

from __future__ import annotations

from pathlib import Path

from deploy import store, verify
from deploy.triton import repository, runtime
from deploy.triton.target import ONNXRUNTIME, Target
from ranking.errors import InvalidRelease
from ranking.release import Release


def render(releases: Path, release_id: str, out: Path, target: Target) -> Release:
    """Write the model repository of one release: a directory per model with its configuration and its version.

    Args:
        releases: the store.
        release_id: one of its releases; verified first, but for its golden scores, which need a server.
        out: made if absent; must not hold anything yet.
        target: what it is written for. For the Python backend the precision is measured on this machine.

    Raises:
        UnknownName: the store holds no such release.
        InvalidRelease: naming what is wrong with it.
        FileExistsError: `out` holds something.
    """
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out}: is not empty")
    release = store.read(releases, release_id)
    verify.manifest(release)
    for i, member in enumerate(release.members):
        directory = releases / release_id
        try:
            choice = runtime.choose(member, directory, out.parent / "runtimes.json", runtime.host(), target)
            model = directory / runtime.file_of(member, choice.variant)
            scalar = target.backend == ONNXRUNTIME and runtime.gives_scalars(model, member.output)
        except InvalidRelease as wrong:
            raise InvalidRelease(f"members[{i}] ({member.name}).{wrong.key}", wrong.reason) from None
        repository.place(out, member, model, choice, target)
        repository.configure(out, member, {member.version}, target, scalar=scalar)
    return release
