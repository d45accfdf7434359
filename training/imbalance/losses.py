"""Losses for imbalanced labels, by name: each is ``loss(logits, targets, *, options)`` and gives a scalar.

Classification losses take (n, c) logits with (n,) int64 classes, or (n,) log-odds with 0/1 targets: a log-odds z is the two
logits [0, z], so every formula reads the same. Losses over lists are in `list_losses.py`. Knows no model and no optimiser.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.imbalance import list_losses


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of (n,) log-odds, mean over rows."""
    return functional.binary_cross_entropy_with_logits(logits, targets.to(logits))


def weighted_bce(logits: Tensor, targets: Tensor, *, positive_weight: float) -> Tensor:
    """Binary cross-entropy in which a positive counts `positive_weight` times; divided by the rows, not by their weight."""
    return functional.binary_cross_entropy_with_logits(logits, targets.to(logits), pos_weight=logits.new_tensor(positive_weight))


def focal(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, weights: Tensor | None = None) -> Tensor:
    """−w_y (1 − p_y)^γ log p_y, mean over rows (Lin et al. 2017, eq. 5); γ = 0 is cross-entropy.

    Args:
        logits: (n, c) or (n,).
        targets: (n,).
        gamma: ≥ 0; how much less an easy row counts.
        weights: (c,) class weights (their α), of negatives and positives for log-odds; default: all 1.
    """
    rows, classes = _classes(logits, targets)
    log_p = functional.log_softmax(rows, dim=1).gather(1, classes[:, None]).squeeze(1)
    # -expm1 keeps 1 - p exact where p is nearly 1; the floor keeps the slope of a power γ < 1 finite there
    easy = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny) ** gamma
    loss = -easy * log_p
    return (loss if weights is None else loss * weights.to(loss)[classes]).mean()


def class_balanced(logits: Tensor, targets: Tensor, *, counts: Tensor, beta: float = 0.999, gamma: float = 0.0) -> Tensor:
    """Cross-entropy, or focal loss where γ > 0, weighted by effective numbers (Cui et al. 2019, eq. 5).

    Args:
        logits: (n, c) or (n,).
        targets: (n,).
        counts: (c,) training rows per class, ≥ 1.
        beta: in [0, 1); 0 weighs all classes alike, towards 1 by inverse frequency.
        gamma: of the focal loss.
    """
    return focal(logits, targets, gamma=gamma, weights=balanced_weights(counts, beta))


def logit_adjusted(logits: Tensor, targets: Tensor, *, counts: Tensor, tau: float = 1.0) -> Tensor:
    """Cross-entropy of f_y + τ ln π_y (Menon et al. 2021, eq. 10); what is learnt is f, already without the prior.

    Args:
        logits: (n, c) or (n,).
        targets: (n,).
        counts: (c,) training rows per class, ≥ 1.
        tau: how much of the prior is taken out.

    Raises:
        ValueError: a class without rows.
    """
    _no_empty_class(counts)
    rows, classes = _classes(logits, targets)
    prior = torch.log(counts.to(rows) / counts.sum())
    return functional.cross_entropy(rows + tau * prior, classes)


def balanced_softmax(logits: Tensor, targets: Tensor, *, counts: Tensor) -> Tensor:
    """−ln(n_y e^f_y / Σ n_j e^f_j) (Ren et al. 2020, eq. 3): logit adjustment with τ = 1."""
    return logit_adjusted(logits, targets, counts=counts, tau=1.0)


def ldam(
    logits: Tensor, targets: Tensor, *, counts: Tensor, max_margin: float = 0.5, scale: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy with the own class's logit lowered by Δ_y = C / n_y^(1/4) (Cao et al. 2019, eq. 13).

    Args:
        logits: (n, c) or (n,).
        targets: (n,).
        counts: (c,) training rows per class, ≥ 1; C is chosen so that the rarest class has `max_margin`.
        max_margin: in units of the logit.
        scale: the margined logits are multiplied by it: 1 for free logits, some 30 where they are cosines.
        weights: (c,) class weights, normally `deferred_weights` of the epoch; the mean is over rows.

    Raises:
        ValueError: a class without rows.
    """
    _no_empty_class(counts)
    rows, classes = _classes(logits, targets)
    margins = counts.to(rows) ** -0.25
    margins = margins * (max_margin / margins.max())
    lowered = rows - functional.one_hot(classes, rows.shape[1]) * margins
    loss = functional.cross_entropy(scale * lowered, classes, reduction="none")
    return (loss if weights is None else loss * weights.to(loss)[classes]).mean()


def effective_number(counts: Tensor, beta: float = 0.999) -> Tensor:
    """(1 − βⁿ) / (1 − β): how many rows n overlapping rows are worth (Cui et al. 2019, proposition 1).

    Raises:
        ValueError: beta outside [0, 1).
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta: must be in [0, 1), got {beta}")
    return (1 - beta ** counts.double()) / (1 - beta)


def balanced_weights(counts: Tensor, beta: float = 0.999) -> Tensor:
    """(c,) float64 class weights inverse to the effective numbers, with mean 1.

    Raises:
        ValueError: a class without rows, or beta outside [0, 1).
    """
    _no_empty_class(counts)
    inverse = 1 / effective_number(counts, beta)
    return inverse * (len(counts) / inverse.sum())


def deferred_weights(counts: Tensor, *, epoch: int, start: int, beta: float = 0.9999) -> Tensor:
    """Class weights of an epoch (from 0): all 1 before `start`, class-balanced from then on (Cao et al. 2019, algorithm 1)."""
    return balanced_weights(counts, beta) if epoch >= start else torch.ones(len(counts), dtype=torch.float64)


def _no_empty_class(counts: Tensor) -> None:
    empty = ~(counts >= 1)
    if bool(empty.any()):
        raise ValueError(f"counts: class {int(empty.nonzero()[0])} has no row")


def _classes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.stack([torch.zeros_like(logits), logits], dim=1) if logits.ndim == 1 else logits
    return rows, targets.long()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "bce": bce,
    "weighted_bce": weighted_bce,
    "focal": focal,
    "class_balanced": class_balanced,
    "logit_adjusted": logit_adjusted,
    "balanced_softmax": balanced_softmax,
    "ldam": ldam,
    "list_cross_entropy": list_losses.list_cross_entropy,
    "softmax": list_losses.softmax,
    "pairwise": list_losses.pairwise,
    "lambda": list_losses.lambda_loss,
}
"""By name, for the search."""
