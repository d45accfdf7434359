"""A disk that is full while a release is published, and two who publish at once: a clear error, and a store as it was."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ranking.errors import InvalidRelease, Unavailable
from ranking.release import MANIFEST
from tests.deploy.full_disk import files_of_at_most
from training.release.draft import finish, next_version, publication

FILES = {"models/trees/model.onnx": 300, "models/bert/model.onnx": 9000, "tokenizer/tokenizer.json": 20_000, MANIFEST: 40_000}


def _publish(store: Path) -> Path:
    """A release of files that grow, the manifest last."""
    with publication(store) as (draft, version):
        for path, size in FILES.items():
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).write_bytes(b'{"members": [{"version": %d}]}' % version + b" " * (size - 29))
        finish(draft, store / f"r{version}")
    return store / f"r{version}"


@pytest.mark.parametrize("path", FILES)
def test_a_disk_that_takes_no_more_of_any_file_publishes_nothing(tmp_path: Path, path: str) -> None:
    """Cut short in each of its files, a publication leaves the releases there are, nothing else, and its version to the next."""
    first = _publish(tmp_path)
    with files_of_at_most(FILES[path] - 1), pytest.raises(Unavailable, match="nothing was published: File too large"):
        _publish(tmp_path)
    assert list(tmp_path.iterdir()) == [first]
    assert _publish(tmp_path).name == "r2"


@pytest.mark.parametrize("at", range(9))
def test_a_disk_that_is_full_when_files_are_flushed_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Filesystems that find room late say so when they are told to make files durable: a release is named only after all of that."""
    calls, real = iter(range(100)), os.fsync

    def full(handle: int) -> None:
        if next(calls) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Unavailable, match="nothing was published: No space left on device"):
        _publish(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_release_of_that_name_stays(tmp_path: Path) -> None:
    """However it came there."""
    (tmp_path / "r1").mkdir()
    with pytest.raises(InvalidRelease, match="id: r1 is in the store already and stays"):
        _publish(tmp_path)
    assert list((tmp_path / "r1").iterdir()) == []


_OTHER = """
import sys
from pathlib import Path
from training.release.draft import publication
with publication(Path(sys.argv[1])):
    print("under way", flush=True)
    sys.stdin.read()
"""


def test_of_two_publishers_at_once_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    """While a process publishes, another is refused; when it is killed, its draft goes and its version is given again."""
    other = subprocess.Popen([sys.executable, "-c", _OTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"under way\n"
        with pytest.raises(Unavailable, match="another publication is under way; publish again when it has ended"):
            _publish(tmp_path)
        assert len(list(tmp_path.glob(".publishing-0001-*"))) == 1
    finally:
        other.kill()
        other.communicate()
    assert next_version(tmp_path) == 1
    assert [p.name for p in (_publish(tmp_path), *tmp_path.iterdir())] == ["r1", "r1"]
