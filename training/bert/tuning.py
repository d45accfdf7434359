"""Which parameters of an encoder are tuned, by name: all, a low-rank or scaling addition (peft), bottleneck adapters, or none of them.

`apply` freezes an encoder and adds what the method trains; at that moment it computes what it computed before. `plain` folds the
additions into the weights where the method allows it, so that what is exported and served is an encoder like any other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ranking.errors import UnknownName

_ATTENTION = ["query", "key", "value"]
_ALL_LINEAR = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


@dataclass(frozen=True, slots=True)
class Counted:
    """Parameters of a model."""

    trainable: int
    total: int

    @property
    def share(self) -> float:
        return self.trainable / self.total


class Adapter(nn.Module):
    """x + up(gelu(down(x))), a bottleneck behind a layer's feed-forward part (Pfeiffer et al. 2021); `up` starts at 0."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(nn.functional.gelu(self.down(x)))  # type: ignore[no-any-return]


def full(encoder: Any, steps: int) -> Any:
    """Every weight."""
    encoder.requires_grad_(requires_grad=True)
    return encoder


def head(encoder: Any, steps: int) -> Any:
    """None: only the heads learn."""
    encoder.requires_grad_(requires_grad=False)
    return encoder


def adapters(encoder: Any, steps: int, *, bottleneck: int = 32) -> Any:
    """One bottleneck per layer."""
    encoder.requires_grad_(requires_grad=False)
    for layer in encoder.encoder.layer:
        added = Adapter(encoder.config.hidden_size, bottleneck)
        layer.output.add_module("adapter", added)
        layer.output.register_forward_hook(lambda _module, _inputs, output, added=added: added(output))
    return encoder


def lora(encoder: Any, steps: int, *, rank: int = 8, alpha: int = 16, matrices: Sequence[str] = _ATTENTION) -> Any:
    """Low-rank additions, to queries, keys and values (Hu et al. 2022) or to other `matrices` of a layer."""
    from peft import LoraConfig

    return _peft(encoder, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.05, target_modules=list(matrices)))


def adalora(encoder: Any, steps: int, *, rank: int = 4, start: int = 8) -> Any:
    """Low-rank additions whose ranks are moved to where they help (Zhang et al. 2023): `start` each, `rank` on average at the end."""
    from peft import AdaLoraConfig

    steps = max(steps, 10)
    config = AdaLoraConfig(
        init_r=start,
        target_r=rank,
        lora_alpha=16,
        tinit=steps // 10,
        tfinal=steps // 2,  # the second half trains what is left
        deltaT=max(1, steps // 50),
        total_step=steps,
        orth_reg_weight=0.1,
        target_modules=_ATTENTION,
    )
    return _peft(encoder, config)


def ia3(encoder: Any, steps: int) -> Any:
    """Scales of keys, values and the feed-forward part's inner states (Liu et al. 2022)."""
    from peft import IA3Config

    return _peft(encoder, IA3Config(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]))


def _peft(encoder: Any, config: Any) -> Any:
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a missing model card: there is no hub here
        return get_peft_model(encoder, config)


METHODS: Mapping[str, Callable[..., Any]] = {
    "full": full,
    "lora": lora,
    "lora_everywhere": partial(lora, matrices=_ALL_LINEAR),  # Dettmers et al. 2023
    "adalora": adalora,
    "ia3": ia3,
    "adapters": adapters,
    "head": head,
}
"""Methods by name: ``(encoder, steps, **options) -> encoder``; `steps` of the whole run, for those that change on the way."""
RATES: Mapping[str, float] = {
    "full": 1.0,
    "lora": 10.0,
    "lora_everywhere": 10.0,
    "adalora": 20.0,
    "ia3": 50.0,
    "adapters": 10.0,
    "head": 10.0,
}
"""Learning rates that suit the methods, over that of full tuning: what is small and new may move further."""


def apply(name: str, encoder: Any, steps: int, *, seed: int = 0, **options: Any) -> Any:
    """The encoder, ready to be tuned by the method: only what it trains requires gradients.

    Args:
        name: of `METHODS`.
        encoder: a `BertModel`; it is changed.
        steps: of the whole run.
        seed: of additions that start at random.
        options: of the method.

    Raises:
        UnknownName: there is no such method.
    """
    if name not in METHODS:
        raise UnknownName("tuning", name, list(METHODS))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return METHODS[name](encoder, steps, **options)


def plain(encoder: Any) -> Any:
    """The encoder with peft's additions folded into its weights; one without such additions as it is."""
    merge = getattr(encoder, "merge_and_unload", None)
    return encoder if merge is None else merge()


def regulariser(encoder: Any) -> torch.Tensor | None:
    """AdaLoRA's price for factors that are not orthogonal, ‖PᵀP − I‖ + ‖QQᵀ − I‖ on average; None for other methods."""
    factors = [p for name, p in encoder.named_parameters() if p.requires_grad and ("lora_A" in name or "lora_B" in name)]
    config = getattr(encoder, "peft_config", {}).get("default")
    if config is None or not hasattr(config, "orth_reg_weight") or not factors:
        return None
    prices = []
    for factor in factors:
        gram = factor @ factor.T if factor.shape[0] < factor.shape[1] else factor.T @ factor
        prices.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)))
    return config.orth_reg_weight * torch.stack(prices).mean()  # type: ignore[no-any-return]


def count(model: nn.Module) -> Counted:
    """Trainable and all parameters."""
    every = list(model.parameters())
    return Counted(sum(p.numel() for p in every if p.requires_grad), sum(p.numel() for p in every))
