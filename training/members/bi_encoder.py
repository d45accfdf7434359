"""The bi-encoder: query and item read apart by the pretrained sentence encoder, scored by the cosine of their vectors.

Nothing is trained. Each distinct text is read once, which is why it is cheap where the cross-encoder (`bert.py`) is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranking.text import SpecialTokens
from training.bert import encoder


def load() -> Any:
    """The pretrained encoder, ready to read."""
    return encoder.load().eval()


def encode(
    model: Any, texts: Sequence[NDArray[Any]], special: SpecialTokens, *, batch_size: int = 128, threads: int = 2
) -> NDArray[np.float32]:
    """Sentence vectors: the mean of the last layer's states over a text's tokens, at length 1 (Reimers and Gurevych 2019, section 3).

    Args:
        model: from `load`.
        texts: token ids of each text without special tokens; zeros are padding.
        special: framing ids.
        batch_size: texts at once, of like length.
        threads: of torch.

    Returns:
        (n, width) float32 rows of length 1.
    """
    framed = [np.concatenate([[special.cls], text[text != 0], [special.sep]]).astype(np.int64) for text in texts]
    order, before = np.argsort([len(f) for f in framed], kind="stable"), torch.get_num_threads()
    out = np.empty((len(framed), model.config.hidden_size), np.float32)
    torch.set_num_threads(threads)
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids = np.full((len(chosen), len(framed[chosen[-1]])), special.pad, np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(chosen):
                ids[row, : len(framed[i])] = framed[i]
                mask[row, : len(framed[i])] = 1
            with torch.no_grad():
                seen = torch.from_numpy(mask)
                states = model(input_ids=torch.from_numpy(ids), attention_mask=seen).last_hidden_state
            vectors = (states * seen[:, :, None]).sum(dim=1) / seen.sum(dim=1, keepdim=True)
            out[chosen] = torch.nn.functional.normalize(vectors, dim=1).numpy()
    finally:
        torch.set_num_threads(before)
    return out


class Vectors:
    """Sentence vectors by text, each made once and kept: an item is in many lists."""

    def __init__(self, special: SpecialTokens, *, threads: int = 2) -> None:
        self._encoder, self._special, self._threads = load(), special, threads
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def of(self, texts: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """(n, width) of n texts' token ids, zeros being padding."""
        keys = [text[text != 0].astype(np.int64).tobytes() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        vectors = encode(self._encoder, list(new.values()), self._special, threads=self._threads)
        self._known |= dict(zip(new, vectors, strict=True))
        return np.stack([self._known[key] for key in keys])


def score(
    vectors: Vectors,
    query_ids: Sequence[NDArray[np.int64]],
    offsets: NDArray[np.int64],
    token_ids: NDArray[np.int32],
    digests: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Score lists, as `training.members.bert.score` does.

    Args:
        vectors: of the sentence encoder.
        query_ids: one per list; an empty one has nothing to match.
        offsets: (L + 1,) list boundaries.
        token_ids: (N, t) of all lists' items, right-padded with 0.
        digests: (N,) text digests; 0 means no text.

    Returns:
        (N,) cosines, NaN where an item or its list has no text.
    """
    _, first, of_item = np.unique(digests, return_index=True, return_inverse=True)
    items, queries = vectors.of(list(token_ids[first])), vectors.of(query_ids)
    rows = np.repeat(np.arange(len(query_ids)), np.diff(offsets))
    cosines = np.einsum("nd,nd->n", queries[rows], items[of_item]).astype(np.float64)
    texts = (digests != 0) & np.array([len(q) > 0 for q in query_ids], bool)[rows]
    return np.where(texts, cosines, np.nan)
