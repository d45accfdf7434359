"""Log lines are for whoever runs the server."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from services.rpc import log
log.configure("INFO")
said = logging.getLogger("grpc._cython.cygrpc")
said.error("ExecuteBatchError raised in core by servicer method [%s]", "/a.B/C")
said.error("Unexpected [%s] raised by servicer method [%s]", "ValueError", "/a.B/C")
"""


def test_a_caller_that_left_is_no_error() -> None:
    """What gRPC says when it cannot send an answer any more is left out, whatever else it says is told."""
    (line,) = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stderr.splitlines()
    assert json.loads(line)["event"] == "Unexpected [ValueError] raised by servicer method [/a.B/C]"
