"""Triton's installation: complete or absent, and every lack is named together with what mends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.triton import wheel
from ranking.errors import Unavailable
from ranking.layout import Layout
from tests.deploy.servers import installed, use_installed


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
