"""The tasks by name: what a head reads of the encoder, and the loss it is trained with. Knows no encoder and no data.

A ranking head compares a pair's two texts, pooled apart, and starts from their cosine (see `training.members.bert`); a class head reads
the mean of all tokens. A label that is NaN is unknown and costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from ranking.errors import UnknownName
from training.bert.segments import compared, pooled

_NO_SCORE = float("-inf")


class Loss(Protocol):
    """Mean loss of the rows whose label is known; ``lists`` (n,) says which list each is of."""

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor, lists: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to be learnt.

    Attributes:
        name: of the labels it is trained on.
        head: makes the head for an encoder's width.
        loss: of (n, outputs) outputs and (n,) labels.
        weight: of its loss in the sum.
    """

    name: str
    head: Callable[[int], nn.Module]
    loss: Loss
    weight: float = 1.0


class Similarity(nn.Module):
    """Log-odds of a pair: scale · cos(q, d) + w · [|q - d|, q ⊙ d] + b, with w = 0 at the start."""

    outputs = 1

    def __init__(self, width: int, *, bias: float = -3.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.linear = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        """(n, 1) of (n, L, width) states."""
        q, d = pooled(states, attention_mask, token_type_ids)
        return self.scale * (q * d).sum(-1, keepdim=True) + self.linear(compared(q, d))  # type: ignore[no-any-return]


class Classes(nn.Module):
    """Outputs that are linear in the mean of all tokens' states."""

    def __init__(self, width: int, outputs: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.outputs = outputs
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(width, outputs)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        """(n, outputs) of (n, L, width) states."""
        seen = attention_mask.to(states.dtype).unsqueeze(-1)
        mean = (states * seen).sum(1) / seen.sum(1).clamp(min=1.0)
        return self.linear(self.dropout(mean))  # type: ignore[no-any-return]


def binary(outputs: torch.Tensor, labels: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of probabilities or 0 and 1."""
    known = ~labels.isnan()
    each = functional.binary_cross_entropy_with_logits(outputs[:, 0], labels.nan_to_num(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def squared(outputs: torch.Tensor, labels: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    """Squared error."""
    known = ~labels.isnan()
    return ((outputs[:, 0] - labels.nan_to_num()).square() * known).sum() / known.sum().clamp(min=1)


def listwise(outputs: torch.Tensor, labels: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between the gains of a list, as shares, and the softmax of its scores (Cao et al. 2007, ListNet, top one).

    Mean over lists that have a gain; a list whose gains are all 0 or unknown says nothing about order.
    """
    count = int(lists.max()) + 1
    gains, known = labels.nan_to_num(), ~labels.isnan()
    scores = torch.where(known, outputs[:, 0].float(), torch.full_like(outputs[:, 0].float(), _NO_SCORE))
    member = functional.one_hot(lists, count).bool()  # (n, lists)
    spread = torch.logsumexp(torch.where(member, scores[:, None], _NO_SCORE), dim=0)  # (lists,)
    total = torch.zeros(count, dtype=scores.dtype, device=scores.device).index_add_(0, lists, gains.to(scores.dtype))
    shares = gains / total[lists].clamp(min=1e-12)
    each = shares * torch.where(known, spread[lists] - scores, torch.zeros_like(scores))
    return each.sum() / (total > 0).sum().clamp(min=1)


def classes(weights: Sequence[float] | None = None) -> Loss:
    """Cross-entropy over classes numbered from 0; `weights` of the classes, 1 each by default."""

    def loss(outputs: torch.Tensor, labels: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
        known = ~labels.isnan()
        target = torch.where(known, labels, torch.full_like(labels, -100.0)).long()
        weight = None if weights is None else torch.tensor(weights, dtype=outputs.dtype, device=outputs.device)
        if not known.any():
            return outputs.sum() * 0.0
        return functional.cross_entropy(outputs, target, weight=weight, ignore_index=-100)

    return loss


TASKS: Mapping[str, Task] = {
    "click": Task("click", Similarity, binary),
    "list": Task("list", Similarity, listwise),
    "conversion": Task("conversion", Similarity, binary),
    "satisfaction": Task("satisfaction", Similarity, binary),
    "sentiment": Task("sentiment", lambda width: Classes(width, 3), classes()),
    "stars": Task("stars", lambda width: Classes(width, 1), squared),
    "recommended": Task("recommended", lambda width: Classes(width, 1), binary),
}
"""Tasks by name. `sentiment` is negative, neutral, positive as 0, 1, 2; `stars` is (rating - 3) / 2."""


def task(name: str) -> Task:
    """The task of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in TASKS:
        raise UnknownName("head", name, list(TASKS))
    return TASKS[name]
