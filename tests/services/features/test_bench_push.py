"""The benchmark's part `push` measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranking.layout import Layout
from services.bench import features as bench
from services.bench import push


@pytest.mark.servers
def test_a_quick_run_sees_every_purchase(tmp_path: Path) -> None:
    """Each of its purchases comes to be seen, later than it was acknowledged; the wanted figure is among those reported."""
    result = bench.run(Layout(tmp_path), quick=True, only=["push"])
    assert set(result["wanted"]) == set(push.WANTED) <= set(result["figures"])
    assert result["figures"]["push_events"] == 20
    assert 0 < result["figures"]["push_visible_p50_ms"] <= result["figures"]["push_visible_p99_ms"]
