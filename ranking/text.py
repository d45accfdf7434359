"""How a query (or a user) and an item become the pair of texts a BERT cross-encoder reads.

Items are tokenised once, in the batch that computes their features; the query part once per request. Joining the two is
array work, the same for training and serving. Nothing here tokenises: ids come in.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.features import MAX_QUERY_TOKENS, stable_key
from ranking.types import IntArray

PAIR_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The cross-encoder's inputs, as `pair_tensors` makes them."""

_MAX_TITLE_WORDS = 20


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The tokenizer's ids that frame a pair: [CLS] query [SEP] item [SEP]."""

    cls: int
    sep: int
    pad: int


def item_text(*parts: str | None) -> str:
    """An item's text from its catalogue fields, most telling first: lower case, repeated words dropped, at most 20 words.

    `item_text("ICE - CRUSHED/CUBED", "FRZN ICE", "National", "22 LB")` → ``"ice crushed cubed frzn national 22 lb"``.
    """
    words: dict[str, None] = {}
    for part in parts:
        for word in _clean(part or "").split():
            words.setdefault(word)
    return " ".join(list(words)[:_MAX_TITLE_WORDS])


def interest_text(categories: Sequence[str]) -> str:
    """What a user buys, in words, largest category first; empty for a user without history."""
    return "buys " + ", ".join(_clean(c) for c in categories) if categories else ""


def query_text(query: str, interests: str) -> str:
    """The first text of the pair: the query where there is one, else what the user buys."""
    cleaned = _clean(query)
    return cleaned or interests


def text_digest(text: str) -> int:
    """Stable 64-bit key of a text: the score cache's key, so that equal texts are scored once."""
    return stable_key(text)


def _clean(text: str) -> str:
    """Lower case, every run of characters that are neither letters, digits nor in-word points becomes one space.

    Works on any script: `str.isalnum` is true for Chinese or Cyrillic letters, and the vowel signs that Devanagari or Thai
    write as combining marks (category M) stay with their letters.
    """
    kept = "".join(c if c.isalnum() or c == "." or unicodedata.category(c)[0] == "M" else " " for c in text.lower())
    return " ".join(word for word in (w.strip(".") for w in kept.split()) if word)


def pair_tensors(query_ids: IntArray, token_ids: NDArray[np.int32], special: SpecialTokens) -> dict[str, IntArray]:
    """Join one query with n items into the cross-encoder's three inputs.

    Args:
        query_ids: (q,) ids without special tokens; cut to `MAX_QUERY_TOKENS`.
        token_ids: (n, t) item ids without special tokens, right-padded with 0.
        special: framing ids.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids`, each (n, L) int64 with L = q + longest item + 3.
    """
    query = np.asarray(query_ids, np.int64)[:MAX_QUERY_TOKENS]
    n, q = len(token_ids), len(query)
    lengths = (token_ids != 0).sum(axis=1)  # (n,)
    t = int(lengths.max(initial=0))
    ids = np.full((n, q + t + 3), special.pad, np.int64)
    ids[:, 0] = special.cls
    ids[:, 1 : q + 1] = query
    ids[:, q + 1] = special.sep
    ids[:, q + 2 : q + 2 + t] = np.where(token_ids[:, :t] == 0, special.pad, token_ids[:, :t])
    ids[np.arange(n), q + 2 + lengths] = special.sep
    position = np.arange(q + t + 3)
    mask = (position < (q + 3 + lengths)[:, None]).astype(np.int64)
    types = ((position >= q + 2) & (mask == 1)).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
