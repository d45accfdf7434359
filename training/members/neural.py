"""A small network over scaled columns as a member: what can be chosen of it. The training itself is in `network.py`, which brings torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.members.contract import Rows
from training.members.dense import Dense


def neural(
    rows: Rows,
    *,
    seed: int,
    threads: int,
    loss: str = "bce",
    loss_options: Mapping[str, Any] | None = None,
    optimiser: str = "adamw",
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-4,
    hidden: tuple[int, ...] = (64, 32),
    epochs: int = 5,
    batch: int = 256,
    deferred: float = 0.8,
    decoupled: str = "",
) -> Dense:
    """Train a network with rectified hidden layers.

    Args:
        rows: training rows; losses over lists need every row in a list and use lists with both a positive and a negative.
        seed: of the first weights and the order.
        threads: of torch; sums are done in the same order for any.
        loss: name in `training.imbalance.losses.LOSSES`. Class counts and the positives' weight come from the rows unless given.
        loss_options: its options.
        optimiser: name in `training.imbalance.optimisers`.
        learning_rate: peak, falling linearly to 0 over the steps.
        weight_decay: of the optimiser.
        hidden: widths.
        epochs: passes over the rows.
        batch: rows per step.
        deferred: share of the epochs before LDAM's class weights set in (Cao et al. 2019, deferred re-weighting).
        decoupled: a resampler: when the network is trained, its last layer is trained again on embeddings balanced by it
            (Kang et al. 2020); empty: not.

    Raises:
        ValueError: an unknown loss, optimiser, resampler or option; row weights with another loss than `bce`; rows without lists where
            the loss compares lists.
    """
    from training.members import network

    recipe = network.Recipe(
        loss, dict(loss_options or {}), optimiser, learning_rate, weight_decay, tuple(hidden), epochs, batch, deferred, decoupled
    )
    return network.fit(rows, recipe, seed=seed, threads=threads)
