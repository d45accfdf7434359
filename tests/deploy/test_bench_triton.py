"""The benchmark of Triton: every contestant scores the same pairs, and the figures say what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from deploy import bench
from ranking.layout import Layout
from tests.deploy.releases import TEXT_INPUTS, bert_logits, bert_model
from tests.deploy.servers import use_installed


@pytest.mark.servers
def test_each_contestant_scores_the_same_pairs_in_every_round(layout: Layout, tmp_path: Path) -> None:
    """A scorer of the caller's own is asked once to warm up and once a round, with a hundred pairs; ratios are of the rates."""
    use_installed(layout)
    onnx.save(bert_model(), tmp_path / "model.onnx")
    asked: list[tuple[int, ...]] = []

    def own(pairs: bench.Pairs) -> np.ndarray:
        asked.append(pairs["input_ids"].shape)
        return bert_logits(pairs)

    figures = bench.run(layout, tmp_path / "model.onnx", TEXT_INPUTS, {"numpy": own}, rounds=2)
    assert asked == [(100, 32)] * 3
    assert set(figures) == {
        *(f"pairs_per_s_{name}_100" for name in ("triton", "inprocess", "onnxruntime", "numpy")),
        *(f"triton_vs_{name}_100" for name in ("inprocess", "onnxruntime", "numpy")),
    }
    assert all(value > 0 for value in figures.values())
    assert figures["triton_vs_numpy_100"] == pytest.approx(figures["pairs_per_s_triton_100"] / figures["pairs_per_s_numpy_100"])
    assert set(bench.WANTED) <= set(figures)
