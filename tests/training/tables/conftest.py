"""The slice of the real data these tests share."""

from __future__ import annotations

import pytest

from tests.training.tables.slices import Slice, build, write_slice
from training.online import apply


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Slice:
    """The slice as it is."""
    raw = tmp_path_factory.mktemp("raw")
    write_slice(raw)
    return build(tmp_path_factory.mktemp("home"), raw)


@pytest.fixture(scope="session")
def applied(small: Slice) -> Slice:
    """The slice with its declarations registered in Feast."""
    apply(small.layout)
    return small
