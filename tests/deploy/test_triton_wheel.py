"""Triton's installation: complete or absent, and every lack is named together with what mends it."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.triton import wheel
from ranking.errors import Unavailable
from ranking.layout import Layout
from tests.deploy.servers import installed, use_installed

_PIP = """#!/bin/sh
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/pytriton/tritonserver/bin"
touch "$2/pytriton/tritonserver/bin/tritonserver"
if [ -t 1 ]; then echo "a bar"; else echo "no bar"; fi
echo "a warning" >&2
exit ${FAIL:-0}
"""


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that fetches nothing and says whether it writes to a terminal; fails where FAIL is set."""
    program = tmp_path / "python"
    program.write_text(_PIP)
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))


@contextmanager
def _terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as stderr (not in a fixture: pytest puts its own back before the test); what is written there is read from the number."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(theirs, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stderr)
        yield ours
    os.close(ours)


@pytest.mark.usefixtures("pip")
def test_on_a_terminal_the_download_shows_its_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """pip draws on the terminal that is stderr; stdout stays the caller's."""
    with _terminal(monkeypatch) as shown:
        wheel.install(tmp_path / "server")
        assert os.read(shown, 1000) == b"a bar\r\n"
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("pip")
def test_on_a_terminal_an_error_is_quoted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip complained of is in the error, wherever its bar went."""
    monkeypatch.setenv("FAIL", "1")
    with _terminal(monkeypatch), pytest.raises(Unavailable, match=r"could not install .*: a warning\nrepeat with: "):
        wheel.install(tmp_path / "server")
    assert not (tmp_path / "server").exists()


@pytest.mark.usefixtures("pip")
def test_without_a_terminal_two_lines_tell_of_the_download(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One line before, because it takes a while, and one after; nothing on stdout."""
    wheel.install(tmp_path / "server")
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "fetching nvidia-pytriton==0.7.0 (Triton's server, 55 MB)",
        f"nvidia-pytriton==0.7.0 is in {tmp_path / 'server'}",
    ]


def test_a_failed_download_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any package index pip fails; its words and the command to repeat are in the error, no folder is left half-made."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        Unavailable,
        match=r"could not install nvidia-pytriton==0\.7\.0 (?s:.*)No matching distribution(?s:.*)repeat with: .* -m pip install",
    ):
        wheel.install(tmp_path / "server")
    assert list(tmp_path.iterdir()) == []


def test_what_is_installed_is_not_fetched_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second installation starts no process."""
    use_installed(layout)
    monkeypatch.setattr("subprocess.run", None)
    wheel.install(layout.triton_server)


def test_an_absent_installation_is_named(tmp_path: Path) -> None:
    """Looking for a server that is not there says how to get it."""
    with pytest.raises(Unavailable, match=r"Triton is not installed in .*pip install --no-deps"):
        wheel.locate(tmp_path / "server")


def test_the_server_gets_everything_it_needs(layout: Layout) -> None:
    """Binary and stub can be run, the backend lies beside its stub, libpython and this environment's python3 are where it will look."""
    use_installed(layout)
    found = wheel.locate(layout.triton_server)
    python = found.backends / "python"
    assert os.access(found.binary, os.X_OK)
    assert os.access(python / "triton_python_backend_stub", os.X_OK)
    assert {"libtriton_python.so", "triton_python_backend_utils.py"} <= {p.name for p in python.iterdir()}
    assert any(list(folder.glob("libpython3*.so.1.0")) for folder in found.libraries)
    assert (found.programs / "python3").exists()
    assert wheel.locate(layout.triton_server) == found
    assert installed().binary.samefile(found.binary)
