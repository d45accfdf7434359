"""A Triton that is told to use its GPU and has none says so instead of serving from the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.triton import backend_model


def test_without_a_gpu_runtime_the_model_is_not_loaded(tmp_path: Path) -> None:
    """The message names the variable and what there is instead."""
    with pytest.raises(
        ValueError, match=r"LONGTAIL_TRITON_CUDA: this ONNX Runtime has no CUDAExecutionProvider, only .*CPUExecutionProvider"
    ):
        backend_model.open_scorer(tmp_path / "model.onnx", backend_model.CUDA, {}, "logit", 1)
