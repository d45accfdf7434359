"""The text ranker as it is before any training, in torch and as ONNX: what a model server's speed is measured with and against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ranking.text import PAIR_INPUTS
from training.members.bert import PairRanker, export, pretrained


def make(path: Path, threads: int) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]:
    """Write the pretrained cross-encoder to an ONNX file; returns the same model in torch: pairs' tensors (n, L) -> (n,) scores.

    Args:
        path: the file.
        threads: of torch, in this process from now on.
    """
    torch.set_num_threads(threads)
    ranker = PairRanker.from_pretrained(pretrained()).eval()
    export(ranker, path)

    def score(pairs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        with torch.inference_mode():
            return ranker(*(torch.from_numpy(pairs[name]) for name in PAIR_INPUTS))["logits"].numpy()  # type: ignore[no-any-return]

    return score
