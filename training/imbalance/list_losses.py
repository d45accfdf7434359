"""Losses over lists of candidates: ``loss(logits, targets, *, mask, options)``, a scalar.

Lists lie in one padded batch: (L, n) logits, (L, n) gains, and an (L, n) bool mask that is true where an item is; a list's loss never
depends on its padding. A list that has nothing to teach (no positive, no pair) counts nothing. Ties in the score stand in input
order, as in `ranking.metrics`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Gains = Literal["linear", "exponential"]


def list_cross_entropy(logits: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy over the items of each list as classes, one of them right.

    Args:
        logits: (L, n).
        targets: (L,) int64 index of the chosen item.
        mask: (L, n) bool; default: no padding.
    """
    return functional.cross_entropy(_shut(logits, mask), targets.long())


def softmax(logits: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Cross-entropy −Σ_i (y_i / Σ y) ln p_i over a list's softmax p, mean over lists with a positive gain (ListNet, Cao et al. 2007).

    Args:
        logits: (L, n).
        targets: (L, n) gains ≥ 0.
        mask: (L, n) bool; default: no padding.
    """
    logits, gains, shown = _clear(logits, targets, mask)
    total = gains.sum(dim=1)
    log_p = functional.log_softmax(_shut(logits, shown), dim=1).masked_fill(~shown, 0.0)
    return _mean(-(gains * log_p).sum(dim=1) / total.clamp_min(torch.finfo(logits.dtype).tiny), total > 0)


def pairwise(logits: Tensor, targets: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Logistic loss ln(1 + e^(s_j − s_i)) of every pair with y_i > y_j (RankNet, Burges et al. 2005).

    Mean over a list's pairs, then over lists with any.

    Args:
        logits: (L, n).
        targets: (L, n) gains.
        mask: (L, n) bool; default: no padding.
    """
    logits, gains, shown = _clear(logits, targets, mask)
    pairs = _pairs(gains, shown)
    losses = functional.softplus(logits[:, None, :] - logits[:, :, None]) * pairs
    count = pairs.sum(dim=(1, 2))
    return _mean(losses.sum(dim=(1, 2)) / count.clamp_min(1), count > 0)


def lambda_loss(logits: Tensor, targets: Tensor, *, mask: Tensor | None = None, k: int | None = None, gains: Gains = "linear") -> Tensor:
    """RankNet's pairs, each weighted by how much NDCG@k changes when the two items swap places (Burges 2010; Wang et al. 2018, eq. 12).

    The weight |G_i − G_j|·|D_i − D_j| / IDCG@k is read off the current ranking and carries no gradient. Summed over a list's pairs,
    mean over lists with any.

    Args:
        logits: (L, n).
        targets: (L, n) gains ≥ 0.
        mask: (L, n) bool; default: no padding.
        k: only the first k places count; default: all.
        gains: G = y, or 2^y − 1.
    """
    logits, value, shown = _clear(logits, targets, mask)
    pairs = _pairs(value, shown)
    value = torch.exp2(value) - 1 if gains == "exponential" else value
    rank = _shut(logits, shown).detach().sort(dim=1, descending=True, stable=True).indices.argsort(dim=1)  # (L, n) from 0
    discount = 1 / torch.log2(torch.arange(logits.shape[1], device=logits.device).to(logits) + 2)
    if k is not None:
        discount = torch.where(torch.arange(len(discount), device=logits.device) < k, discount, 0.0)
    ideal = (value.sort(dim=1, descending=True).values * discount).sum(dim=1)
    place = discount[rank]
    swap = (value[:, :, None] - value[:, None, :]).abs() * (place[:, :, None] - place[:, None, :]).abs()
    losses = functional.softplus(logits[:, None, :] - logits[:, :, None]) * swap * pairs
    return _mean(losses.sum(dim=(1, 2)) / ideal.clamp_min(torch.finfo(logits.dtype).tiny), pairs.any(dim=2).any(dim=1))


def _clear(logits: Tensor, targets: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and gains with padding at 0, whatever stood there, and the mask."""
    shown = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask
    return logits.masked_fill(~shown, 0.0), targets.to(logits).masked_fill(~shown, 0.0), shown


def _shut(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Padding at minus infinity: last in order, no share of a softmax."""
    return logits if mask is None else logits.masked_fill(~mask, -torch.inf)


def _pairs(gains: Tensor, shown: Tensor) -> Tensor:
    """(L, n, n) whether item i must stand before item j."""
    return (gains[:, :, None] > gains[:, None, :]) & shown[:, :, None] & shown[:, None, :]


def _mean(losses: Tensor, counted: Tensor) -> Tensor:
    """Mean of the (L,) losses that count; 0 with its gradient where none does."""
    return (losses * counted).sum() / counted.sum().clamp_min(1)
