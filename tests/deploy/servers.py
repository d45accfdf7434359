"""Real Triton servers for tests: installed once into a folder shared by all test runs, started on free ports, stopped by their starter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from deploy.files import locked
from deploy.triton import process, wheel
from ranking.layout import Layout

_DEFAULT = Path(__file__).parents[2] / ".longtail" / "test"


@cache
def installed() -> wheel.Installed:
    """Triton's binary, fetched with pip on first use."""
    shared = Layout(Path(os.environ.get("LONGTAIL_TEST_STATE", _DEFAULT)).resolve())
    with locked(shared.home / "install.lock"):
        wheel.install(shared.triton_server)
        return wheel.locate(shared.triton_server)


def use_installed(layout: Layout) -> None:
    """Make the shared installation appear in a fresh state directory, for processes that look for it there."""
    layout.triton_server.parent.mkdir(parents=True, exist_ok=True)
    if not layout.triton_server.exists():
        layout.triton_server.symlink_to(installed().backends.parent / "server")


def free_ports() -> process.Ports:
    return process.Ports(process.free_port(), process.free_port(), process.free_port())


@contextmanager
def running_triton(layout: Layout) -> Iterator[process.TritonServer]:
    """A server on the state directory's model repository, nothing loaded."""
    server = process.start(installed(), layout.triton_repository, free_ports(), layout.logs / "triton.log")
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
