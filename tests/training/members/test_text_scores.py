"""Members that read texts without training: BM25 and the bi-encoder."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training.members import bert, bi_encoder, bm25

TITLES = ("yogurt low fat strawberry 6 oz", "motor oil 5w30", "dog food dry chicken", "bread wheat", "yogurt plain", "")
QUERIES = ("strawberry yogurt", "motor oil", "")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(bert.pretrained() / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def scorers(tokenizer: Tokenizer) -> dict[str, Any]:
    corpus = bm25.Corpus.of(padded(ids(tokenizer, TITLES)))
    vectors = bi_encoder.Vectors(bert.special_tokens(tokenizer))
    return {"bm25": partial(bm25.score, corpus), "bi_encoder": partial(bi_encoder.score, vectors)}


def ids(tokenizer: Tokenizer, texts: tuple[str, ...]) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def padded(texts: list[list[int]], width: int = 24) -> np.ndarray:
    out = np.zeros((len(texts), width), np.int32)
    for row, text in zip(out, texts, strict=True):
        row[: len(text)] = text[:width]
    return out


def lists(tokenizer: Tokenizer) -> tuple[Any, ...]:
    """Every query with every title as one list."""
    queries = tuple(np.array(q, np.int64) for q in ids(tokenizer, QUERIES))
    titles = padded(ids(tokenizer, TITLES))
    digests = np.where((titles != 0).any(axis=1), np.arange(1, len(TITLES) + 1), 0)
    n = len(QUERIES)
    return queries, np.arange(n + 1) * len(TITLES), np.tile(titles, (n, 1)), np.tile(digests, n)


@pytest.mark.parametrize("name", ["bm25", "bi_encoder"])
def test_scores_put_the_matching_text_first_and_are_none_without_text(tokenizer: Tokenizer, scorers: dict[str, Any], name: str) -> None:
    """The best text leads its list; an item without text, and every item of a list without a query, is NaN."""
    texts = lists(tokenizer)
    found = scorers[name](*texts)
    by_list = found.reshape(len(QUERIES), len(TITLES))
    assert found.dtype == np.float64
    assert [int(np.nanargmax(row)) for row in by_list[:2]] == [0, 1]
    assert np.isnan(by_list[:2]).tolist() == [[False] * 5 + [True]] * 2
    assert np.isnan(by_list[2]).all()
    np.testing.assert_array_equal(found, scorers[name](*texts))


@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=8), st.lists(st.integers(1, 15), max_size=5))
def test_bm25_is_its_formula(texts: list[list[int]], query: list[int]) -> None:
    """Counted word by word, the published sum: idf · f (k1 + 1) / (f + k1 (1 − b + b |d| / mean |d|))."""
    k1, b, mean = 1.2, 0.75, sum(map(len, texts)) / len(texts)
    want = []
    for text in texts:
        total, count = 0.0, Counter(text)
        for word in query:
            having = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            total += idf * count[word] * (k1 + 1) / (count[word] + k1 * (1 - b + b * len(text) / mean))
        want.append(total)
    tokens = padded(texts, 6)
    np.testing.assert_allclose(bm25.bm25(bm25.Corpus.of(tokens), np.array(query, np.int64), tokens), want, rtol=1e-12)


def test_bm25_needs_a_text() -> None:
    """A catalogue without words has no rare ones."""
    with pytest.raises(ValueError, match="needs a text"):
        bm25.Corpus.of(np.zeros((3, 4), np.int32))


def test_a_sentence_vector_is_the_mean_of_its_tokens_at_length_one(tokenizer: Tokenizer) -> None:
    """Batches, padding and order change nothing: each row is the pretrained encoder's own mean-pooled vector of that text alone."""
    encoder, special = bi_encoder.load(), bert.special_tokens(tokenizer)
    texts = [np.array(t, np.int64) for t in ids(tokenizer, TITLES[:5])]
    found = bi_encoder.encode(encoder, texts, special, batch_size=2)
    for text, row in zip(texts, found, strict=True):
        framed = torch.from_numpy(np.concatenate([[special.cls], text, [special.sep]]))[None]
        with torch.no_grad():
            mean = encoder(input_ids=framed, attention_mask=torch.ones_like(framed)).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)
