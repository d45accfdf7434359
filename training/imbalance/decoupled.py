"""Decoupled training: the representation is learnt from the data as they are, then only the head is trained again on balanced ones.

Classifier re-training of Kang et al. 2020, section 4.1. Works on embeddings that were computed once, so that a trial costs a head and
never an encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.imbalance.losses import LOSSES
from training.imbalance.optimisers import optimiser as make_optimiser
from training.imbalance.resample import resample


def retrain_head(
    head: nn.Module,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int8],
    *,
    resampler: str = "random_over",
    strength: float = 1.0,
    resampler_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    loss: str = "bce",
    loss_options: Mapping[str, Any] | None = None,
    optimiser: str = "adamw",
    learning_rate: float = 1e-2,
    weight_decay: float = 0.0,
    epochs: int = 5,
    batch: int = 256,
) -> tuple[nn.Module, float]:
    """Train a copy of `head` on balanced embeddings.

    Args:
        head: (n, d) embeddings to (n,) or (n, 1) log-odds; it is left as it is.
        embeddings: (n, d) of the training fold.
        labels: (n,) 0 or 1.
        resampler: one of `training.imbalance.resample.RESAMPLERS`.
        strength: positives per negative after resampling.
        resampler_options: of the generators.
        seed: of resampling and order.
        loss: name of a loss over (n,) log-odds. Row weights are only meant for `bce`.
        loss_options: its options.
        optimiser: name.
        learning_rate: of the optimiser.
        weight_decay: of the optimiser.
        epochs: passes over the balanced rows.
        batch: rows per step.

    Returns:
        The trained copy, and the offset that undoes the resampling's change of the prior: add it to the head's log-odds.

    Raises:
        ValueError: an unknown name, or weighted rows with a loss other than `bce`.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss: {loss!r} is not known; known: {', '.join(LOSSES)}")
    rows = resample(resampler, embeddings, labels, strength=strength, seed=seed, options=resampler_options)
    weighted = bool((rows.weights != 1).any())
    if weighted and loss != "bce":
        raise ValueError(f"loss: {loss} takes no row weights, which {resampler} gives; use bce")
    x, y, w = (torch.from_numpy(np.array(a, np.float32)) for a in (rows.features, rows.labels, rows.weights))
    trained = copy.deepcopy(head).train()
    steps = make_optimiser(optimiser, trained.parameters(), learning_rate=learning_rate, weight_decay=weight_decay)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=order).split(batch):
            logits = trained(x[chosen]).reshape(-1)
            if weighted:
                value = nn.functional.binary_cross_entropy_with_logits(logits, y[chosen], weight=w[chosen])
            else:
                value = LOSSES[loss](logits, y[chosen], **(loss_options or {}))
            steps.zero_grad(set_to_none=True)
            value.backward()
            steps.step()
    return trained.eval(), rows.offset
