"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ranking.layout import Layout
from tests.deploy.releases import build_release
from tests.services.gateway_fakes import Gateway, activate, gateway


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory with release `r1` active."""
    build_release(Layout(tmp_path).releases, "r1", 1)
    activate(tmp_path, "r1")
    return tmp_path


@pytest.fixture
async def gw(home: Path) -> AsyncIterator[Gateway]:
    """A gateway over fakes that serves `r1`."""
    async with gateway(home) as running:
        yield running
