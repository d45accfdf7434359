"""What is sent to a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.submit import Upload, check_words, pack


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "training").mkdir(parents=True)
    (root / "training" / "search.py").write_text("print('x')\n")
    (root / "search.toml").write_text('name = "x"\nstorage = "relative"\n')
    (root / "notes.txt").write_text("mine")
    (root / ".gitignore").write_text("data\n")
    (root / "data").write_bytes(b"0" * 1000)
    subprocess.run(["git", "-C", str(root), "init", "--quiet"], check=True)
    subprocess.run(["git", "-C", str(root), "add", "training", "search.toml", ".gitignore"], check=True)
    return root


def test_the_upload_is_what_git_tracks(checkout: Path) -> None:
    """Neither ignored nor untracked files nor `.git` are sent; the size is theirs."""
    made = pack(checkout)
    assert made.names == ("search.toml", "training/search.py")
    assert made.size == sum((checkout / name).stat().st_size for name in made.names)


def test_equal_files_have_equal_digests(checkout: Path) -> None:
    """An untracked file changes nothing; one byte of a tracked one does, and so does a name."""
    before = pack(checkout).digest
    (checkout / "notes.txt").write_text("other")
    assert pack(checkout).digest == before
    (checkout / "training" / "search.py").write_text("print('y')\n")
    changed = pack(checkout).digest
    assert changed != before
    (checkout / "training" / "search.py").write_text("print('x')\n")
    assert pack(checkout).digest == before
    subprocess.run(["git", "-C", str(checkout), "mv", "search.toml", "other.toml"], check=True)
    assert pack(checkout).digest not in (before, changed)


def test_too_large_an_upload_is_refused_by_its_largest_files(checkout: Path) -> None:
    """What is tracked and does not fit is named with its size."""
    (checkout / "large.bin").write_bytes(b"0" * 3 * 2**20)
    subprocess.run(["git", "-C", str(checkout), "add", "large.bin"], check=True)
    with pytest.raises(ValueError, match=r"upload: 3\.0 MiB of tracked files, more than 2 MiB; the largest: large\.bin 3\.0 MiB"):
        pack(checkout, most=2 * 2**20)
    assert pack(checkout).files == 3


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    """Without git nobody knows what belongs to it."""
    with pytest.raises(ValueError, match="not a git checkout"):
        pack(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--storage", "searches", "--name", "x"],
            "--storage: must be an absolute path .*, got searches",
        ),
        (["--storage=searches"], "--storage: must be an absolute path"),
        (["--config", "notes.toml"], r"--config: notes\.toml is not tracked by git, so it is not sent"),
        (
            ["--config", "search.toml"],
            r"search\.toml: storage must be an absolute path .*, got 'relative'",
        ),
    ],
)
def test_a_search_that_could_not_be_gone_on_with_is_refused(checkout: Path, words: list[str], message: str) -> None:
    """A job runs in a copy of the files that is gone with it."""
    with pytest.raises(ValueError, match=message):
        check_words(words, pack(checkout))


def test_a_search_with_a_place_of_its_own_is_sent(tmp_path: Path) -> None:
    """Absolute paths are the cluster's business."""
    nothing = Upload(tmp_path, (), 0, "")
    check_words(["--storage", "/shared", "--name", "x"], nothing)
    check_words(["--config", "/shared/search.toml"], nothing)
