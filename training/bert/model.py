"""One encoder under any number of heads: their losses are summed by weight. Knows no data and no training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from training.bert.heads import Task
from training.bert.tuning import regulariser


class Heads(nn.Module):
    """An encoder that is read once, and the heads on it, in the order of the tasks."""

    def __init__(self, encoder: Any, tasks: Sequence[Task]) -> None:
        super().__init__()
        names = [task.name for task in tasks]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"tasks: need at least one and none twice, got {names}")
        self.encoder, self.tasks = encoder, tuple(tasks)
        self.heads = nn.ModuleDict({task.name: task.head(encoder.config.hidden_size) for task in tasks})

    @classmethod
    def seeded(cls, encoder: Any, tasks: Sequence[Task], seed: int) -> Heads:
        """With heads whose first weights follow from the seed, whatever was drawn before."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cls(encoder, tasks)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        lists: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        images: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Outputs of all heads beside each other, (n, Σ outputs), as `logits`; given `labels` (n, tasks) also their `loss`.

        `features` (n, f) and `images` (n, w), NaN where there is none, are for heads that fuse them with the texts.
        """
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        outputs = [self.heads[task.name](states, attention_mask, token_type_ids, features=features, images=images) for task in self.tasks]
        logits = torch.cat(outputs, dim=1)
        if labels is None:
            return {"logits": logits}
        if lists is None:
            lists = torch.arange(len(labels), device=labels.device)
        losses = [
            task.weight * task.loss(out.float(), label, lists)
            for task, out, label in zip(self.tasks, outputs, labels.unbind(dim=1), strict=True)
        ]
        price = regulariser(self.encoder) if self.training else None
        return {"loss": torch.stack([*losses, *([] if price is None else [price])]).sum(), "logits": logits}

    def split(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """`logits` by task, (n, outputs) each."""
        sizes = [int(self.heads[task.name].outputs) for task in self.tasks]  # type: ignore[arg-type]
        return dict(zip((task.name for task in self.tasks), logits.split(sizes, dim=1), strict=True))
