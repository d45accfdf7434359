"""The benchmark of rankers of typed queries."""

from __future__ import annotations

import json
from pathlib import Path

from ranking.layout import Layout
from tests.training.relevance import shop
from training.relevance import bench, learners


def test_every_method_has_its_row(tmp_path: Path) -> None:
    """Plain rankers, learners, ablations and trained rankers are measured on the same queries; figures that miss their mark say false."""
    shop.write(tmp_path)
    result = bench.run(Layout(tmp_path / "home"), path=tmp_path, encoder=shop.Letters())
    methods = result["methods"]
    assert {"bm25", "maxsim", "rating_count", "blend", "late", "ensemble", *learners.LEARNERS} <= set(methods)
    assert {m["queries"] for m in methods.values()} == {len(shop.judgments())}
    for name in ("ensemble", "late", *(f"ridge without {group}" for group in bench.LEFT_OUT)):
        low, high = methods[name]["difference_interval"]
        assert low <= methods[name]["difference"] <= high
    assert result["met"] == {name: result["figures"][name] >= bound for name, (_, bound) in result["wanted"].items()}
    assert json.loads(json.dumps(result)) == result
    lines = bench.table(result).splitlines()
    assert len(lines) == 2 + len(methods)
    assert len({line.count("|") for line in lines}) == 1
