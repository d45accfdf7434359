"""Log lines are for whoever runs the server."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from services.rpc import log


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """As in a server, and afterwards as pytest wants it."""
    root, grpc_log = logging.getLogger(), logging.getLogger("grpc._cython.cygrpc")
    before, filters = (root.handlers[:], root.level), grpc_log.filters[:]
    log.configure("INFO")
    yield capsys
    root.handlers[:], root.level = before
    grpc_log.filters[:] = filters


def test_a_caller_that_left_is_no_error(told: pytest.CaptureFixture[str]) -> None:
    """What gRPC says when it cannot send an answer any more is left out, whatever else it says is told."""
    grpc_log = logging.getLogger("grpc._cython.cygrpc")
    grpc_log.error("ExecuteBatchError raised in core by servicer method [%s]", "/a.B/C")
    grpc_log.error("Unexpected [%s] raised by servicer method [%s]", "ValueError", "/a.B/C")
    (line,) = told.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "Unexpected [ValueError] raised by servicer method [/a.B/C]"
