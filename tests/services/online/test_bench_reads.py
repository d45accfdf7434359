"""The reads' part of the benchmark measures what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranking.layout import Layout
from services.bench import features as bench
from services.bench import reads


@pytest.mark.servers
def test_a_quick_run_gives_every_wanted_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios are those of the medians beside them; both stores; nothing is left in the state directory."""
    monkeypatch.setattr(reads, "SIZES", (500, 20))
    report = bench.run(Layout(tmp_path / "state"), quick=True, only=["reads"])
    figures = report["figures"]
    assert set(report["wanted"]) == set(report["met"]) == set(reads.WANTED) <= set(figures)
    for store in ("sqlite", "redis"):
        for size in (500, 20):
            feast = figures[f"{store}_{size}_feast_p50_ms"]
            for way, ratio in (("snapshot", "ratio"), ("cold_user", "cold_user_ratio"), ("miss", "miss_ratio")):
                assert figures[f"{store}_{size}_{ratio}"] == pytest.approx(feast / figures[f"{store}_{size}_{way}_p50_ms"], rel=0.05)
                assert 0 < figures[f"{store}_{size}_{way}_p50_ms"] <= figures[f"{store}_{size}_{way}_p99_ms"]
    assert not (tmp_path / "state").exists()


def test_other_values_are_no_figure() -> None:
    """A way that says something else than Feast stops the benchmark, naming what differs."""
    user = {"orders_all": [1.0]}
    items = {"price_28d": [1.0, None]}
    wanted = reads._user(user), reads.item_features(np.array([reads.stable_key("a"), reads.stable_key("b")]), items)
    reads._check(["a", "b"], {"feast": (user, items), "ours": wanted})
    wanted[1].scalars[1, 0] = 7.0
    with pytest.raises(RuntimeError, match="ours: scalars is not what Feast says"):
        reads._check(["a", "b"], {"feast": (user, items), "ours": wanted})
