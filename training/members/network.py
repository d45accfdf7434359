"""Training the network of `neural.py` with any loss and optimiser of `training.imbalance`.

Losses of rows see random batches of rows; losses of lists see whole lists, padded. Runs on the CPU; knows no text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.imbalance.decoupled import retrain_head
from training.imbalance.losses import LOSSES, deferred_weights
from training.imbalance.optimisers import optimiser
from training.members.contract import Rows
from training.members.dense import Dense
from training.members.scaling import Scale

LIST_LOSSES: tuple[str, ...] = tuple(name for name, loss in LOSSES.items() if "mask" in inspect.signature(loss).parameters)
"""Losses over whole lists."""
_PADDED = 1 << 21  # pairs of items in one batch of lists, at most: what a pairwise loss holds at once
_BATCH_OF_LISTS = 1 << 12  # padded items in it, at most


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained; see `training.members.neural.neural`."""

    loss: str
    loss_options: Mapping[str, Any]
    optimiser: str
    learning_rate: float
    weight_decay: float
    hidden: tuple[int, ...]
    epochs: int
    batch: int
    deferred: float
    decoupled: str


def fit(rows: Rows, recipe: Recipe, *, seed: int, threads: int) -> Dense:
    """The trained network; arguments and errors as `training.members.neural.neural` says."""
    loss = recipe.loss
    options = _options(loss, dict(recipe.loss_options), rows)
    if rows.weighted and loss != "bce":
        raise ValueError(f"weights: neural with loss {loss} takes no row weights; use bce or a resampler that gives none")
    scale, before = Scale.of(rows.features), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(rows.features.shape[1], recipe.hidden)
        steps = optimiser(recipe.optimiser, network.parameters(), learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay)
        x = torch.from_numpy(scale(rows.features))
        batches = _lists(rows, loss, x) if loss in LIST_LOSSES else _rows(rows, loss, x, recipe.batch)
        order = torch.Generator().manual_seed(seed)
        for epoch in range(recipe.epochs):
            if loss == "ldam":
                options["weights"] = deferred_weights(options["counts"], epoch=epoch, start=round(recipe.deferred * recipe.epochs))
            for done, (value, share) in enumerate(batches(network, order, options)):
                for group in steps.param_groups:
                    group["lr"] = recipe.learning_rate * (1.0 - (epoch + done * share) / recipe.epochs)
                steps.zero_grad(set_to_none=True)
                value.backward()
                steps.step()
        offset = _balance_head(network, x, rows, recipe.decoupled, seed) if recipe.decoupled else 0.0
    finally:
        torch.set_num_threads(before)
    linear = [m for m in network if isinstance(m, nn.Linear)]
    layers = [(m.weight.detach().numpy().T.copy(), m.bias.detach().numpy().copy()) for m in linear]
    layers[-1] = (layers[-1][0], layers[-1][1] + np.float32(offset))
    return Dense(scale, tuple(layers), log_odds=loss == "bce")


def _network(width: int, hidden: tuple[int, ...]) -> nn.Sequential:
    widths = (width, *hidden)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


def _options(loss: str, options: dict[str, Any], rows: Rows) -> dict[str, Any]:
    if loss not in LOSSES:
        raise ValueError(f"neural.loss: {loss!r} is not known; known: {', '.join(LOSSES)}")
    known = [name for name in inspect.signature(LOSSES[loss]).parameters if name not in ("logits", "targets", "mask")]
    for option in options:
        if option not in known:
            raise ValueError(f"neural.loss_options.{option}: unknown option of {loss}; known: {', '.join(known) or 'none'}")
    if "counts" in known:
        options.setdefault("counts", torch.tensor(np.bincount(rows.labels, minlength=2)))
    if "positive_weight" in known:
        options.setdefault("positive_weight", rows.negatives_per_positive)
    return options


Batches = Callable[[nn.Module, torch.Generator, Mapping[str, Any]], Iterator[tuple[Tensor, float]]]
"""(network, order, loss options) -> the loss of each batch of an epoch, with its share of the epoch."""


def _rows(rows: Rows, loss: str, x: Tensor, batch: int) -> Batches:
    y, w = torch.from_numpy(rows.labels.astype(np.float32)), torch.from_numpy(rows.weights.astype(np.float32, copy=True))
    weighted = rows.weighted

    def batches(network: nn.Module, order: torch.Generator, options: Mapping[str, Any]) -> Iterator[tuple[Tensor, float]]:
        for chosen in torch.randperm(len(x), generator=order).split(batch):
            logits = network(x[chosen]).squeeze(1)
            if weighted:
                value = nn.functional.binary_cross_entropy_with_logits(logits, y[chosen], weight=w[chosen])
            else:
                value = LOSSES[loss](logits, y[chosen], **options)
            yield value, batch / len(x)

    return batches


def _lists(rows: Rows, loss: str, x: Tensor) -> Batches:
    """Whole lists, those of like length together so that little is padding."""
    rows.need_lists(f"neural with loss {loss}")
    by_list = np.argsort(rows.lists, kind="stable")
    spans = np.split(by_list, np.flatnonzero(np.diff(rows.lists[by_list])) + 1)
    taught = sorted((s for s in spans if 0 < rows.labels[s].sum() < len(s)), key=len)
    if not taught:
        raise ValueError(f"lists: neural with loss {loss} needs a list that has both a positive and a negative")
    groups: list[list[NDArray[np.int64]]] = [[]]
    for span in taught:
        room = min(_PADDED // len(span) ** 2, _BATCH_OF_LISTS // len(span))
        if len(groups[-1]) >= max(1, room):
            groups.append([])
        groups[-1].append(span)
    padded = [_padded(group, rows.labels) for group in groups]

    def batches(network: nn.Module, order: torch.Generator, options: Mapping[str, Any]) -> Iterator[tuple[Tensor, float]]:
        for i in torch.randperm(len(padded), generator=order).tolist():
            where, gains, mask = padded[i]
            logits = network(x[where.reshape(-1)]).reshape(where.shape)
            if loss == "list_cross_entropy":
                logits, gains, mask = _choices(logits, gains, mask)
            yield LOSSES[loss](logits, gains, mask=mask, **options), 1 / len(padded)

    return batches


def _padded(group: list[NDArray[np.int64]], labels: NDArray[np.int8]) -> tuple[Tensor, Tensor, Tensor]:
    """(L, n) row numbers, gains and mask of some lists."""
    longest = max(map(len, group))
    where = np.zeros((len(group), longest), np.int64)
    mask = np.zeros((len(group), longest), bool)
    for i, span in enumerate(group):
        where[i, : len(span)] = span
        mask[i, : len(span)] = True
    return torch.from_numpy(where), torch.from_numpy(labels[where] * mask), torch.from_numpy(mask)


def _choices(logits: Tensor, gains: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One list per positive: that item against the list's negatives, the other positives out of sight."""
    of, chosen = (gains > 0).nonzero(as_tuple=True)
    shown = mask[of] & (gains[of] <= 0)
    shown[torch.arange(len(of)), chosen] = True
    return logits[of], chosen, shown


def _balance_head(network: nn.Sequential, x: Tensor, rows: Rows, resampler: str, seed: int) -> float:
    """Train the last layer again on balanced embeddings; the log-odds to add for the balance."""
    with torch.no_grad():
        embeddings = network[:-1](x).numpy()
    network[-1], offset = retrain_head(network[-1], embeddings, rows.labels, resampler=resampler, seed=seed, epochs=2)
    return offset
