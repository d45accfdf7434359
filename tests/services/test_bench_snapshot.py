"""The snapshot's part of the benchmark measures what it says."""

from __future__ import annotations

from services.bench import snapshot as bench


def test_a_quick_run_gives_every_wanted_figure() -> None:
    """Memory is that of the mapped file and no more, counted once for all processes."""
    result = bench.run(quick=True)
    figures = result["figures"]
    assert set(result["wanted"]) == set(result["met"]) == set(bench.WANTED) <= set(figures)
    for name in ("million_items", "million_items_taste"):
        assert 0 < figures[f"{name}_rss_mb"] <= figures[f"{name}_file_mb"]
        assert figures[f"{name}_gather500_us"] > 0
        assert figures[f"{name}_private_mb"] > 1
