"""``python -m deploy.audit``: known advisories against the pinned set, by pip-audit, and an honest word where nobody could be asked.

Exit status 0: every package was asked about and none has an advisory; 1: one has; 3: nothing, or not everything, is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
_COMMAND = ("-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--requirement")


class Verdict(NamedTuple):
    """What there is to say, and the exit status."""

    lines: list[str]
    code: int


def judge(stdout: str, stderr: str) -> Verdict:
    """What pip-audit's output means; its own exit status is 1 for an advisory and for a network that is away alike."""
    try:
        packages = json.loads(stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = stderr.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        return Verdict([f"no source of advisories could be asked, so nothing is known: {last[0][:300]}"], 3)
    found = [
        f"{p['name']} {p['version']}: {v['id']}, fixed in {', '.join(v['fix_versions']) or 'no version'}"
        for p in packages
        for v in p.get("vulns", ())
    ]
    unknown = [f"{p['name']}: not asked about: {p['skip_reason']}" for p in packages if "skip_reason" in p]
    summary = f"{len(packages)} packages, {len(found)} advisories, {len(unknown)} not asked about"
    return Verdict([*found, *unknown, summary], 1 if found else 3 if unknown or not packages else 0)


def main() -> int:
    """Ask, and print what was learnt."""
    done = subprocess.run([sys.executable, *_COMMAND, str(CONSTRAINTS)], capture_output=True, text=True, check=False)
    verdict = judge(done.stdout, done.stderr)
    print("\n".join(verdict.lines))
    return verdict.code


if __name__ == "__main__":
    sys.exit(main())
