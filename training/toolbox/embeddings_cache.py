"""Sentence vectors that are computed once: an array on disk named by its texts and its model. Knows no label and no method."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.bert.encoder import pretrained, special_tokens
from training.tables.tokens import Tokens, tokenizer_file

LIMIT = 126  # ids of a text: what the encoder was trained on, less the two framing ids


def digest(texts: Sequence[str]) -> str:
    """32 hex digits over the texts in order, the model's weights (by name and size) and the length texts are cut at."""
    out = hashlib.blake2b(digest_size=16)
    for file in sorted(pretrained().iterdir()):
        out.update(f"{file.name} {file.stat().st_size}\0".encode())
    out.update(f"{LIMIT}\0".encode())
    for text in texts:
        out.update(text.encode() + b"\0")
    return out.hexdigest()


class Embedder:
    """The pretrained sentence encoder, loaded when first needed."""

    def __init__(self, cache: Path) -> None:
        """Vectors are kept in the folder `cache`, which is made when there are some."""
        self.cache = cache
        self._encoder: object | None = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) vectors of length 1, from disk where these texts were read before."""
        path = self.cache / f"{digest(texts)}.npy"
        if path.exists():
            kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
            return kept
        vectors = self.encode(texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        building = path.with_name(f".{path.name}.{os.getpid()}")
        with building.open("wb") as file:
            np.save(file, vectors)
        building.replace(path)
        return vectors

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, 384) vectors, read anew."""
        from tokenizers import Tokenizer

        from training.members import bi_encoder

        if self._encoder is None:
            self._encoder = bi_encoder.load()
        special = special_tokens(Tokenizer.from_file(str(tokenizer_file())))
        return bi_encoder.encode(self._encoder, Tokens()(texts, LIMIT), special)
