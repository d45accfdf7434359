"""Asking Prometheus' own tool: which one, what its verdict means, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import promtool


def _tool(folder: Path, program: str) -> Path:
    """A promtool on the PATH that does so, with the commands it needs."""
    folder.mkdir()
    path = folder / "promtool"
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("program", "code"), [("exit 0", 0), ('[ "$1" = check ]', 1), ("exit 1", 1)])
def test_all_checks_have_to_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, code: int) -> None:
    """The rules may parse and their tests fail."""
    path = _tool(tmp_path / "bin", program)
    monkeypatch.setenv("PATH", str(path.parent))
    assert promtool.found() == path
    assert promtool.main() == code


def test_where_none_can_be_had_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No promtool, no apt: a status of its own, and not a success."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(promtool.found, "__defaults__", (tmp_path / "home",))
    assert promtool.main() == 3
    assert "the rules were not held against it: apt-get: " in capsys.readouterr().out


def test_apts_own_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine whose apt knows no such package."""
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: Unable to locate package prometheus' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(promtool.NoPromtoolError, match="apt-get download: E: Unable to locate package prometheus"):
        promtool.found(tmp_path / "home")
