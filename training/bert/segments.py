"""Pooling a pair's two texts apart: what the served ranker and the ranking heads have in common."""

from __future__ import annotations

import torch
from torch import nn


def pooled(states: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean states of the first and of the second text, each at length 1.

    Args:
        states: (n, L, width) of the encoder's last layer.
        attention_mask: (n, L), 1 where there is a token.
        token_type_ids: (n, L), 1 in the second text.

    Returns:
        Two (n, width); zeros where a text has no token.
    """
    second = token_type_ids.to(states.dtype).unsqueeze(-1)
    first = attention_mask.to(states.dtype).unsqueeze(-1) - second
    q = (states * first).sum(1) / first.sum(1).clamp(min=1.0)
    d = (states * second).sum(1) / second.sum(1).clamp(min=1.0)
    return nn.functional.normalize(q, dim=-1), nn.functional.normalize(d, dim=-1)


def compared(q: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    """(n, 2 · width): how two pooled texts differ and where they agree, [|q - d|, q ⊙ d]."""
    return torch.cat([(q - d).abs(), q * d], dim=-1)
