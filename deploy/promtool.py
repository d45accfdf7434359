"""``python -m deploy.promtool``: the alert rules and their unit tests, by Prometheus' own tool.

The promtool of the PATH, else that of Debian's package `prometheus`, which apt fetches and nobody installs: it is unpacked beside this
Python. Exit status 0: all is well; 1: it is not; 3: there is no promtool to ask, and why.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RULES = Path(__file__).parent / "observability"
CHECKS = (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml"))
_HOME = Path(sys.prefix) / "promtool"
_FETCH_S = 120


class NoPromtoolError(Exception):
    """There is none, and none can be had; says why."""


def found(home: Path = _HOME) -> Path:
    """The promtool to ask.

    Args:
        home: where Debian's is unpacked.

    Raises:
        NoPromtoolError: there is none on the PATH, and apt is not there or has none.
    """
    known = shutil.which("promtool") or shutil.which("promtool", path=home / "usr" / "bin")
    if known is None:
        with tempfile.TemporaryDirectory() as folder:
            _run(["apt-get", "download", "prometheus"], folder)
            package = next(Path(folder).glob("prometheus_*.deb"))
            _run(["dpkg-deb", "--extract", str(package), str(home)], folder)
        known = str(home / "usr" / "bin" / "promtool")
    return Path(known)


def _run(command: Sequence[str], folder: str) -> None:
    try:
        subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=_FETCH_S)
    except subprocess.CalledProcessError as failed:
        said = failed.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise NoPromtoolError(f"{' '.join(command[:2])}: {said[0]}") from None
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise NoPromtoolError(f"{command[0]}: {failed}") from None


def main() -> int:
    """Ask, and print what it says."""
    try:
        promtool = found()
    except NoPromtoolError as none:
        print(f"promtool is not on the PATH and cannot be fetched, so the rules were not held against it: {none}")
        return 3
    codes = [subprocess.run([promtool, *check], cwd=RULES, check=False).returncode for check in CHECKS]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
