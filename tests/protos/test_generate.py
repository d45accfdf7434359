"""protos/gen is what generate.py writes, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATE = ROOT / "protos" / "generate.py"
GEN = ROOT / "protos" / "gen"


def check(gen: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, GENERATE, "--check", "--gen", gen], capture_output=True, text=True, check=False)


def test_the_checked_in_code_is_fresh() -> None:
    """`--check` succeeds on the repository as it is."""
    result = check(GEN)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("damage", ["differs", "missing", "not generated"])
def test_stale_code_fails_the_check_and_is_named(tmp_path: Path, damage: str) -> None:
    """A changed, a missing and an extra file each fail the check with the file's name."""
    gen = tmp_path / "gen"
    shutil.copytree(GEN, gen, ignore=shutil.ignore_patterns("__pycache__"))
    victim = gen / "longtail" / "ranking" / "v1" / "ranking_service_pb2.pyi"
    if damage == "differs":
        victim.write_text(victim.read_text() + "\n")
    elif damage == "missing":
        victim.unlink()
    else:
        victim = victim.with_name("stray.py")
        victim.write_text("")
    result = check(gen)
    assert result.returncode == 1
    assert f"{damage}: {victim.relative_to(gen)}" in result.stderr


def test_the_contract_is_lint_clean() -> None:
    """`buf lint` has nothing to say, comments included."""
    buf = Path(sys.executable).parent / "buf"
    result = subprocess.run([buf, "lint"], cwd=ROOT / "protos", capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
