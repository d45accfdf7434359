"""A found ranker as one model: the mean of its folds' models, which is what its kept scores are. Knows no search and no release.

Trained on items of at most `length` tokens, it reads any: what is longer is cut inside the model, so that who serves it need not know.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from training.bert import tuning
from training.bert.model import Heads

FILES = "model-{}.pt"


class Bagged(nn.Module):
    """Mean log-odds of models that read the same pairs."""

    def __init__(self, models: Sequence[Heads], length: int, sep: int) -> None:
        super().__init__()
        self.models, self.length, self.sep = nn.ModuleList(models), length, sep

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """`logits` (n,) of n framed pairs."""
        cut = shortened(input_ids, attention_mask, token_type_ids, self.length, self.sep)
        each = [model(*cut)["logits"][:, 0] for model in self.models]
        return {"logits": torch.stack(each).mean(0)}


def shortened(
    ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor, length: int, sep: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Framed pairs whose second text has at most `length` tokens: [SEP] moves to behind the last of them, what follows is masked."""
    place = torch.cumsum(types, dim=1) * types  # 1 at the second text's first token, its own [SEP] counted too
    kept = (place <= length + 1).long()
    return torch.where(place == length + 1, torch.full_like(ids, sep), ids), mask * kept, types * kept


def packed(model: Heads) -> bytes:
    """A trained model's weights; peft's additions are folded into them."""
    model.encoder = tuning.plain(model.encoder)
    out = io.BytesIO()
    torch.save(model.state_dict(), out)
    return out.getvalue()


def unpacked(parts: Sequence[bytes], make: Callable[[], Heads], config: Mapping[str, Any], sep: int) -> Bagged:
    """The model of what `packed` gave, fold by fold.

    Args:
        parts: of every fold.
        make: an untrained model, as it was before the method added anything.
        config: of the trial.
        sep: the tokenizer's [SEP].
    """
    models = []
    for part in parts:
        model = make()
        if config["method"] == "adapters":  # they stay beside the weights
            tuning.apply("adapters", model.encoder, 1, bottleneck=int(config["rank"]))
        model.load_state_dict(torch.load(io.BytesIO(part), weights_only=True))
        models.append(model)
    return Bagged(models, int(config["length"]), sep).eval()
