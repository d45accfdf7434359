"""The pretrained encoder in two parts, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from training.members import bi_encoder
from training.members.bert import special_tokens
from training.relevance.encoder import MiniLM, finish
from training.relevance.searchable import Read
from training.tables.tokens import Tokens, tokenizer_file

TEXTS = ("red mug", "a long title of a brown leather belt without buckle", "刀具 套装")


def test_both_parts_make_the_whole_encoder() -> None:
    """Layers below and above, one after the other, give the vectors of the encoder in one piece, but for float16."""
    reader = MiniLM()
    ours = Read(finish(reader.upper(), reader.lower(TEXTS))).vectors
    special = special_tokens(Tokenizer.from_file(str(tokenizer_file())))
    whole = bi_encoder.encode(bi_encoder.load(), Tokens()(TEXTS, 62), special, threads=1)
    np.testing.assert_allclose(ours, whole, atol=2e-3)


def test_what_was_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second reading of the same texts needs no encoder and gives the same states; other texts are read."""
    first = MiniLM(tmp_path).lower(TEXTS)
    again = MiniLM(tmp_path)
    monkeypatch.setattr(bi_encoder, "load", lambda: pytest.fail("the encoder was loaded"))
    kept = again.lower(TEXTS)
    for name in ("values", "offsets"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(first, name))
    assert [len(kept.of(i)) for i in range(len(kept))] == np.diff(first.offsets).tolist()
    with pytest.raises(pytest.fail.Exception):
        again.lower(TEXTS[:1])


def test_a_text_of_no_word_is_still_a_text() -> None:
    """An empty title has its two framing tokens, and a vector of length 1."""
    reader = MiniLM()
    vectors = Read(finish(reader.upper(), reader.lower(["", "mug"]))).vectors
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
