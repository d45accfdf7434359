"""Feast's registry as training finds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranking.features import USER_BEHAVIOUR
from ranking.layout import Layout
from training.dataset import FeastError, historical

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as Feast's imports raise


def test_a_registry_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other bytes in its place are an error with the file's name, of the kind that commands print as a line."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    layout = Layout(tmp_path)
    layout.feast.mkdir()
    (layout.feast / "registry.db").write_bytes(b"\xff\x00no registry" * 40)
    with pytest.raises(FeastError, match=r"feast/registry\.db: Feast cannot read its registry"):
        historical(layout, USER_BEHAVIOUR, ["ann"], np.array(["2017-12-25"], "datetime64[us]"))
