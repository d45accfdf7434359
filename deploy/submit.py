"""A search sent to a Ray cluster: the tracked files of a checkout as one upload, a job that runs them, its log followed. Alone knows Ray.

Ray uploads a folder as it lies there, `.git` and data included, and leaves out silently what `.gitignore` names. What is sent here is
what git tracks, with a size and a digest that say so.
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

MOST = 100 * 2**20  # bytes; Ray's own limit for a working directory
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Upload:
    """What is sent.

    Attributes:
        root: the checkout.
        names: tracked files, relative, sorted.
        size: bytes of all of them.
        digest: sha256 over their names and contents: equal files give equal digests, wherever they lie.
    """

    root: Path
    names: tuple[str, ...]
    size: int
    digest: str

    @property
    def files(self) -> int:
        return len(self.names)


def pack(root: Path, *, most: int = MOST) -> Upload:
    """The tracked files of a checkout, as they lie there now, but for what says which files git should not look at.

    Raises:
        ValueError: they are more than `most` bytes; the largest are named. Or `root` is no checkout.
    """
    said = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached"], capture_output=True, text=True, check=False)
    if said.returncode:
        raise ValueError(f"{root}: not a git checkout: {said.stderr.strip()}")
    named = (name for name in said.stdout.split("\0") if Path(name).name not in ("", ".gitignore"))  # Ray would obey it
    names = sorted(name for name in named if (root / name).is_file())
    sizes = {name: (root / name).stat().st_size for name in names}
    size = sum(sizes.values())
    if size > most:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        listed = ", ".join(f"{name} {sizes[name] / 2**20:.1f} MiB" for name in largest)
        raise ValueError(f"upload: {size / 2**20:.1f} MiB of tracked files, more than {most / 2**20:g} MiB; the largest: {listed}")
    found = hashlib.sha256()
    for name in names:
        found.update(f"{name}\0{sizes[name]}\0".encode())
        with (root / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                found.update(chunk)
    return Upload(root, tuple(names), size, found.hexdigest())


def check_words(words: Sequence[str], upload: Upload) -> None:
    """Refuse what could not be found again: an interrupted search is gone on with where its storage is.

    Raises:
        ValueError: a storage that is not absolute, so that it would lie in the job's own copy of the files, or a file that is not sent.
    """
    given = dict(pairwise(words)) | dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    if "--storage" in given and not Path(given["--storage"]).is_absolute():
        raise ValueError(f"--storage: must be an absolute path that all machines of the cluster see, got {given['--storage']}")
    if "--config" in given and not Path(given["--config"]).is_absolute():
        if given["--config"] not in upload.names:
            raise ValueError(f"--config: {given['--config']} is not tracked by git, so it is not sent; add it or give an absolute path")
        storage = tomllib.loads((upload.root / given["--config"]).read_text()).get("storage", "")
        if not Path(str(storage)).is_absolute():
            raise ValueError(f"{given['--config']}: storage must be an absolute path that all machines of the cluster see, got {storage!r}")


def submit(upload: Upload, words: Sequence[str], address: str) -> str:
    """Start ``python -m training.search WORDS`` on the cluster; the job's id.

    Raises:
        ConnectionError: nobody answers at the address.
        ValueError: as `check_words` says.
    """
    check_words(words, upload)
    with tempfile.TemporaryDirectory() as copy:
        for name in upload.names:
            target = Path(copy) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(upload.root / name, target)
        return str(
            _client(address).submit_job(
                entrypoint=shlex.join(["python", "-m", "training.search", *words]),
                runtime_env={"working_dir": copy},
                metadata={"sha256": upload.digest},
            )
        )


def follow(job: str, address: str, told: Callable[[str], Any]) -> str:
    """Hand on the job's log until it ends; how it ended, such as ``SUCCEEDED``."""
    client = _client(address)

    async def read() -> None:
        async for part in client.tail_job_logs(job):
            for line in part.splitlines():
                told(line)

    asyncio.run(read())
    return str(client.get_job_status(job).value)


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address)
