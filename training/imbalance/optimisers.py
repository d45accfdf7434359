"""Optimisers by name. Adaptive ones suit rare features: a weight that is seldom touched keeps its long step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


def _adagrad(parameters: Any, learning_rate: float, weight_decay: float) -> Optimizer:
    return torch.optim.Adagrad(parameters, lr=learning_rate, weight_decay=weight_decay)


def _adamw(parameters: Any, learning_rate: float, weight_decay: float) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)


_MAKERS: dict[str, Callable[[Any, float, float], Optimizer]] = {"adamw": _adamw, "adagrad": _adagrad}
OPTIMISERS: tuple[str, ...] = tuple(_MAKERS)
"""By name, for the search."""


def optimiser(name: str, parameters: Iterable[Any], *, learning_rate: float, weight_decay: float = 0.0) -> Optimizer:
    """Make an optimiser.

    Args:
        name: ``adamw`` (Loshchilov and Hutter 2019) or ``adagrad`` (Duchi et al. 2011).
        parameters: tensors, or torch's parameter groups.
        learning_rate: AdaGrad's steps only shrink, so it wants some ten times AdamW's.
        weight_decay: decoupled from the gradient in AdamW, added to it in AdaGrad.

    Raises:
        ValueError: unknown name.
    """
    if name not in _MAKERS:
        raise ValueError(f"optimiser: {name!r} is not known; known: {', '.join(OPTIMISERS)}")
    return _MAKERS[name](parameters, learning_rate, weight_decay)
