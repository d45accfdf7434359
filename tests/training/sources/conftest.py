"""Each source's tables, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.training.sources import tiny


@pytest.fixture(scope="session")
def canonical_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the canonical tables of a name of `tiny.NAMES`."""

    @cache
    def made(name: str) -> Path:
        out = tmp_path_factory.mktemp("canonical")
        tiny.write(name, tmp_path_factory.mktemp("raw"), out)
        return out

    return made
