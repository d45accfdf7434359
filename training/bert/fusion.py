"""Texts, numbers and an image in one score: by concatenation, or by gates that say per pair how much each of them counts.

An item's image comes as a vector of whatever encoder made it (see docs/images.md); it is optional. Where it is missing, a learnt vector
stands for it and the gates are told; now and then that is done in training to images that are there, so that the model knows how to do
without. Knows no encoder of images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training.bert.heads import Task, listwise
from training.bert.segments import compared, pooled

MODALITIES = ("text", "features", "image")
_PRODUCTS = 4  # with 32 the head learnt single pairs by heart, with none it needed three times the lists (docs/benchmarks/bert.md)


class Fusion(nn.Module):
    """Log-odds of a pair from up to three modalities, each projected to the same width.

    The text part starts as the served ranker's similarity, the others at 0: an untrained fusion orders as texts alone do.
    """

    outputs = 1

    def __init__(
        self,
        width: int,
        *,
        features: int,
        image: int,
        hidden: int = 32,
        gated: bool = True,
        drop_images: float = 0.2,
        use: tuple[str, ...] = MODALITIES,
    ) -> None:
        """For an encoder of that `width`, so many `features` and image vectors of `image` numbers.

        Args:
            width: of the encoder's states.
            features: numbers beside the texts.
            image: numbers of an image vector.
            hidden: width of a modality's projection.
            gated: gates per modality (Arevalo et al. 2017); False: concatenation.
            drop_images: share of the images that are taken for missing in a training step.
            use: modalities that take part.

        Raises:
            ValueError: too narrow a projection.
        """
        super().__init__()
        if hidden <= _PRODUCTS:
            raise ValueError(f"hidden: {hidden}, need more than {_PRODUCTS}")
        self.gated, self.drop_images, self.use = gated, drop_images, use
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.text = nn.Linear(2 * width, hidden)
        self.features = nn.Linear(features, hidden)
        self.image = nn.Linear(image, hidden)
        self.asked = nn.Linear(width, _PRODUCTS)  # what the first text asks of an image
        self.absent = nn.Parameter(torch.zeros(hidden))
        self.gates = nn.Linear(len(MODALITIES) * hidden + 1, len(MODALITIES))
        self.score = nn.Linear(len(MODALITIES) * hidden, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(
        self,
        states: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        features: torch.Tensor | None = None,
        images: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """(n, 1). A pair whose image is NaN, and every pair where `images` is None, has none."""
        q, d = pooled(states, attention_mask, token_type_ids)
        n = len(q)
        there = torch.zeros(n, dtype=torch.bool, device=q.device) if images is None else ~images.isnan().any(dim=1)
        if self.training and self.drop_images:
            there = there & (torch.rand(n, device=q.device) >= self.drop_images)
        nothing = q.new_zeros(n, self.text.out_features)
        parts = {
            "text": torch.tanh(self.text(compared(q, d))),
            "features": nothing if features is None else torch.tanh(self.features(features.to(q.dtype))),
            "image": self.absent.expand(n, -1) if images is None else self._seen(q, images, there),
        }
        joined = torch.cat([parts[name] if name in self.use else nothing for name in MODALITIES], dim=1)
        if self.gated:
            gates = 2.0 * torch.sigmoid(self.gates(torch.cat([joined, there[:, None].to(q.dtype)], dim=1)))  # 1 where nothing is learnt
            joined = joined * gates.repeat_interleave(self.text.out_features, dim=1)
        similarity = self.scale * (q * d).sum(-1, keepdim=True) if "text" in self.use else 0.0
        return similarity + self.score(joined) + self.bias  # type: ignore[no-any-return]

    def _seen(self, q: torch.Tensor, images: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """(n, hidden): what the image shows, the last few numbers times what is asked: an image suits one query and not another."""
        seen = torch.tanh(self.image(images.nan_to_num().to(q.dtype)))
        suits = seen[:, -_PRODUCTS:] * torch.tanh(self.asked(q))  # low-rank bilinear pooling (Kim et al. 2017)
        return torch.where(there[:, None], torch.cat([seen[:, :-_PRODUCTS], suits], dim=1), self.absent)


def fused(*, features: int, image: int, loss: Callable[..., torch.Tensor] = listwise, **options: Any) -> Task:
    """The task `list` with a head that fuses; options are those of `Fusion`."""
    return Task("list", lambda width: Fusion(width, features=features, image=image, **options), loss)
