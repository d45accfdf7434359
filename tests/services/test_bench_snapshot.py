"""The snapshot's part of the benchmark measures what it says."""

from __future__ import annotations

from pathlib import Path

from ranking.layout import Layout
from services.bench import features as bench
from services.bench import snapshot


def test_a_quick_run_gives_every_wanted_figure(tmp_path: Path) -> None:
    """Memory is that of the mapped file and no more, counted once for all processes."""
    result = bench.run(Layout(tmp_path), quick=True, only=["snapshot"])
    figures = result["figures"]
    assert set(result["wanted"]) == set(result["met"]) == set(snapshot.WANTED) <= set(figures)
    for name in ("million_items", "million_items_taste"):
        assert 0 < figures[f"{name}_rss_mb"] <= figures[f"{name}_file_mb"]
        assert figures[f"{name}_gather500_us"] > 0
        assert figures[f"{name}_private_mb"] > 1
