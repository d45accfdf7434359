"""An encoder that trains in seconds, and pairs with a rule to learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranking.text import SpecialTokens
from training.bert import encoder
from training.bert.data import Pairs

SPECIAL = SpecialTokens(101, 102, 0)


def tiny(seed: int = 0) -> Any:
    """Two layers of width 32 with random weights."""
    return encoder.untrained(seed=seed, num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64, vocab_size=500)


def pairs(lists: int = 24, size: int = 3, *, seed: int = 0, **labels: str) -> Pairs:
    """Lists in which the candidate that shares its first token with the query is the one clicked."""
    rng = np.random.default_rng(seed)
    first, second, clicked = [], [], []
    for _ in range(lists):
        query = rng.integers(110, 500, 2)
        right = int(rng.integers(0, size))
        for i in range(size):
            words = rng.integers(110, 500, int(rng.integers(2, 7)))
            first.append(query)
            second.append(np.concatenate([query[:1], words]) if i == right else words)
            clicked.append(float(i == right))
    label = np.array(clicked, np.float32)
    return Pairs(first, second, dict.fromkeys(labels or {"list": ""}, label), np.arange(lists + 1) * size)
