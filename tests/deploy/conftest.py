"""A fresh state directory per test, and a real Triton on it for those that ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.triton.process import TritonServer
from ranking.layout import Layout
from tests.deploy.servers import running_triton


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "home")


@pytest.fixture
def triton(layout: Layout) -> Iterator[TritonServer]:
    with running_triton(layout) as server:
        yield server
