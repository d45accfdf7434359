"""How gateway processes run: in processes of their own, since what the collector is told holds for all of one."""

from __future__ import annotations

import subprocess
import sys


def _said(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_the_start_made_is_not_looked_at_again() -> None:
    """Nothing is collected until the process has started; then what is there stands apart, and what comes later is collected as ever."""
    program = """
import gc, weakref
from services.rpc import loop

class Knot:
    def __init__(self):
        self.own = self

async def main():
    assert not gc.isenabled()
    early = weakref.ref(Knot())
    loop.started()
    late = weakref.ref(Knot())
    gc.collect()
    return early() is not None, late() is None, gc.isenabled(), gc.get_freeze_count() > 1000

print(loop.run(main()))
"""
    assert _said(program) == "(True, True, True, True)"


def test_a_start_that_fails_leaves_the_collector_on() -> None:
    """Its error is the caller's."""
    program = """
import gc
from services.rpc import loop

async def main():
    raise OSError("taken")

try:
    loop.run(main())
except OSError as error:
    print(error, gc.isenabled())
"""
    assert _said(program) == "taken True"
