"""Triton's model repository on disk: version directories from releases, and the configuration that says which are served.

::

    <repository>/<model>/config.pbtxt
    <repository>/<model>/warmup/                golden rows, which every version answers before it is ready
    <repository>/<model>/<version>/model.onnx   the release's file (hard link where possible)
    <repository>/<model>/<version>/model.py     a copy of backend_model.py, read by the Python backend
    <repository>/<model>/<version>/run.json     variant, runtime and threads on this host

What differs between versions stands in the version directory, so that `config.pbtxt` changes only in which versions it names
and versions already loaded stay as they are. A torn file counts as absent: all of it can be written again from the releases.
Writes files; loading them is `deploy.lifecycle`'s business.
"""

from __future__ import annotations

import json
import logging
import os
import py_compile
import shutil
from collections.abc import Iterable
from pathlib import Path

from deploy.files import write_atomically
from deploy.triton import backend_model
from deploy.triton.config import WARMUP, ModelConfig, Warmup
from deploy.triton.runtime import Choice, golden_arrays
from deploy.triton.target import CPU, PYTHON, Target
from ranking.release import MOST_PAIRS, MOST_ROWS, Member, TensorSpec

CONFIG = "config.pbtxt"
_log = logging.getLogger(__name__)


def place(repository: Path, member: Member, model: Path, choice: Choice, target: Target) -> None:
    """Write the version directory of `member`, or leave it alone where it is already right.

    The directory is made beside its place and renamed: Triton never sees half of one.

    Args:
        repository: the model repository.
        member: the manifest's entry.
        model: its ONNX file in the release directory.
        choice: what it runs on.
        target: whose backend reads it.
    """
    version = repository / member.model / str(member.version)
    run = json.dumps({"variant": choice.variant, "runtime": choice.runtime, "threads": choice.threads, "sha256": member.sha256}) + "\n"
    code = Path(backend_model.__file__).read_bytes() if target.backend == PYTHON else None
    if _holds(version, run, code):
        return
    partial = version.with_name(f".{version.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _link(model, partial / "model.onnx")
    if code is not None:
        (partial / "model.py").write_bytes(code)
        _compile(partial / "model.py")
    (partial / "run.json").write_text(run, encoding="utf-8")
    shutil.rmtree(version, ignore_errors=True)
    partial.rename(version)


def placed_digest(repository: Path, model: str, version: int) -> str:
    """The sha256 of the model that stands in a version directory, empty where there is none (or none that says so)."""
    return _said(repository, model, version, "sha256")


def placed_variant(repository: Path, model: str, version: int) -> str:
    """The variant that stands in a version directory; empty where the release names none, or nothing stands there."""
    return _said(repository, model, version, "variant")


def _said(repository: Path, model: str, version: int, key: str) -> str:
    path = repository / model / str(version) / "run.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))[key])
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError) as torn:
        _log.warning("%s is torn and counts as absent: %s", path, torn)
        return ""


def torn(repository: Path, member: Member) -> bool:
    """Whether the version directory is there and does not say what it holds: Triton could not load it again."""
    return (repository / member.model / str(member.version)).is_dir() and not placed_digest(repository, member.model, member.version)


def configure(repository: Path, member: Member, versions: Iterable[int], target: Target, *, scalar: bool = False) -> None:
    """Write the model's configuration: `member`'s inputs and output, serving exactly `versions`.

    The rows for warming up are the golden ones of whichever release came first: others would make Triton load every version again.

    Args:
        repository: the model repository.
        member: the manifest's entry.
        versions: to serve side by side.
        target: what the repository is written for.
        scalar: see `ModelConfig`.
    """
    have = _read(repository, member.model)
    rows = golden_arrays(member.golden.inputs, member.inputs)
    warmup = Warmup(len(member.golden.outputs), {name: array.shape[1:] for name, array in rows.items()})
    folder = repository / member.model / WARMUP
    if have is not None and have.warmup is not None and have.inputs == member.inputs and folder.is_dir():
        warmup = have.warmup
    else:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in rows.items():
            (folder / Warmup.file(name)).write_bytes(array.tobytes())
    write_atomically(repository / member.model / CONFIG, _config(member, versions, target, scalar=scalar, warmup=warmup).text())


def configured(repository: Path, model: str) -> set[int]:
    """The versions the model's configuration serves; empty where it has none."""
    have = _read(repository, model)
    return set(have.versions) if have else set()


def conflict(repository: Path, member: Member) -> bool:
    """Whether the model has a configuration whose inputs or output are not `member`'s; its versions cannot serve side by side then."""
    have, want = _read(repository, member.model), _config(member, (), Target())
    return have is not None and (have.inputs, have.output) != (want.inputs, want.output)


def models(repository: Path) -> list[str]:
    """Names of the models that have a directory."""
    return sorted(p.name for p in repository.iterdir() if p.is_dir()) if repository.is_dir() else []


def remove(repository: Path, model: str, keep: set[int]) -> None:
    """Delete the version directories not in `keep`, and the model's when nothing is kept. Unload them first."""
    if not keep:
        shutil.rmtree(repository / model)
        return
    for directory in (repository / model).iterdir():
        if directory.is_dir() and directory.name not in {WARMUP, *(str(v) for v in keep)}:
            shutil.rmtree(directory)


def _config(member: Member, versions: Iterable[int], target: Target, *, scalar: bool = False, warmup: Warmup | None = None) -> ModelConfig:
    output = TensorSpec(member.output, "FP32", (-1,))
    most = MOST_PAIRS if member.kind == "text" and target.device == CPU else MOST_ROWS
    return ModelConfig(member.model, member.inputs, output, tuple(sorted(versions)), target, most, scalar, warmup)


def _read(repository: Path, model: str) -> ModelConfig | None:
    """The model's configuration, None where it has none (or a torn one)."""
    path = repository / model / CONFIG
    try:
        return ModelConfig.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as torn:
        _log.warning("%s is torn and counts as absent: %s", path, torn)
        return None


def _holds(version: Path, run: str, code: bytes | None) -> bool:
    """Whether a version directory is already what `place` would write; the model itself was compared by its digest in run.json."""
    model = version / "model.py"
    try:
        return (version / "run.json").read_bytes() == run.encode() and (model.read_bytes() == code if code else not model.exists())
    except FileNotFoundError:
        return False


def _compile(code: Path) -> None:
    """Leave the interpreter nothing to write: a `__pycache__` that appears later counts as a change, and Triton then loads every
    version again at the next load.
    """
    py_compile.compile(str(code), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem, or one without hard links
        shutil.copyfile(source, target)
