"""A release store elsewhere: any URL that fsspec knows. The only module that imports fsspec.

Object stores know no rename and no lock. So files lie there under their digest, where two publishers can only write the same bytes, and
a release is published by one small object, its manifest, which is created last and only where there is none:

    <url>/files/<sha256>
    <url>/releases/<id>.json
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from deploy import numbers, store
from deploy.files import flush
from ranking.errors import InvalidRelease, Unavailable, UnknownName
from ranking.release import MANIFEST, Release


def push(releases: Path, release_id: str, url: str) -> Release:
    """Publish a release of the local store at `url`. Doing it again changes nothing; a push cut short is simply made again.

    Args:
        releases: the local store.
        release_id: one of its releases; verified first.
        url: the store elsewhere, made if absent.

    Raises:
        UnknownName, InvalidRelease: the release is not there or not whole; nothing was published.
        InvalidRelease: another release was published under this name; it stays.
        Unavailable: the store elsewhere did not take it; nothing was published.
    """
    release = store.read(releases, release_id)
    manifest = (releases / release_id / MANIFEST).read_bytes()
    try:
        fs, root = _open(url)
        fs.makedirs(f"{root}/files", exist_ok=True)
        fs.makedirs(f"{root}/releases", exist_ok=True)
        for _, path, sha256 in store.files(release):
            local, there = releases / release_id / path, f"{root}/files/{sha256}"
            if not fs.exists(there) or fs.size(there) != local.stat().st_size:
                fs.put_file(str(local), there)
        name = f"{root}/releases/{release_id}.json"
        try:
            _create(fs, name, manifest)
        except FileExistsError:
            if fs.cat_file(name) != manifest:
                raise InvalidRelease(release_id, f"another release was published under this name at {url}; it stays") from None
    except OSError as problem:
        raise Unavailable(f"{url}: {problem}") from None
    return release


def pull(url: str, release_id: str, releases: Path, *, renumber: bool = False) -> Release:
    """Copy a release from `url` into the local store, where it appears whole or not at all.

    Args:
        url: the store elsewhere.
        release_id: one of its releases.
        releases: the local store, made if absent.
        renumber: where a version's number is another model's here, give all of its models a free one: the copy is then another release,
            ``ID-nVERSION``, whose lineage names the one it is of.

    Raises:
        UnknownName: there is no such release at `url`.
        InvalidRelease: naming what of it is wrong, or that another release has this name here, or another model one of its versions;
            nothing was changed.
        Unavailable: the store elsewhere did not answer, the disk took no more, or somebody publishes here; nothing was changed.
    """
    draft = releases / f".pulling-{release_id}-{os.getpid()}"
    try:
        fs, root = _open(url)
        manifest = _manifest(fs, root, release_id)
        release = store.parsed(manifest, release_id, "it is published as")
        if (releases / release_id).exists():
            return _same(releases, release_id, manifest)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        for key, path, sha256 in store.files(release):
            _fetch(fs, f"{root}/files/{sha256}", draft / path, key, sha256)
        with numbers.held(releases):
            try:
                numbers.check(releases, release)
            except InvalidRelease:
                if not renumber:
                    raise
                release = numbers.renumbered(releases, release)
                manifest = f"{json.dumps(release.to_json(), indent=1, allow_nan=False)}\n".encode()
            if (releases / release.id).exists():  # somebody else was quicker, or it was renumbered before
                return _same(releases, release.id, manifest)
            _write(draft / MANIFEST, manifest)
            draft.rename(releases / release.id)
            flush(releases)
    except OSError as problem:
        raise Unavailable(f"{url}: {problem}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return release


def _open(url: str) -> tuple[Any, str]:
    try:
        fs, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as wrong:  # an unknown protocol, or one whose library is not installed
        raise Unavailable(f"{url}: {wrong}") from None
    return fs, str(root).rstrip("/")


def _create(fs: Any, path: str, content: bytes) -> None:
    """Write a file where there is none.

    Raises:
        FileExistsError: there is one.
    """
    if isinstance(fs, LocalFileSystem):  # whose `pipe_file` looks first and writes then; a link is made or refused in one step
        target = Path(path)
        draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        _write(draft, content)
        try:
            target.hardlink_to(draft)
        finally:
            draft.unlink()
    else:
        fs.pipe_file(path, content, mode="create")


def _manifest(fs: Any, root: str, release_id: str) -> bytes:
    names = fs.ls(f"{root}/releases", detail=False) if fs.exists(f"{root}/releases") else []
    known = [name.rpartition("/")[2].removesuffix(".json") for name in names if name.endswith(".json")]
    if release_id not in known:
        raise UnknownName("release", release_id, known)
    return bytes(fs.cat_file(f"{root}/releases/{release_id}.json"))


def _fetch(fs: Any, there: str, here: Path, key: str, sha256: str) -> None:
    try:
        content = bytes(fs.cat_file(there))
    except FileNotFoundError:
        raise InvalidRelease(f"{key}.path", f"its file is not in the store: {there}") from None
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InvalidRelease(f"{key}.sha256", f"{there} has digest {found}")
    here.parent.mkdir(parents=True, exist_ok=True)
    _write(here, content)
    flush(here.parent)


def _same(releases: Path, release_id: str, manifest: bytes) -> Release:
    if (releases / release_id / MANIFEST).read_bytes() != manifest:
        raise InvalidRelease(release_id, "another release has this name here; it stays")
    return store.read(releases, release_id)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
