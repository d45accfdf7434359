"""How queries, users and items become what the text member reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.features import MAX_QUERY_TOKENS
from ranking.text import SpecialTokens, interest_text, item_text, pair_tensors, query_text, text_digest

SPECIAL = SpecialTokens(cls=101, sep=102, pad=0)
CLS, SEP, PAD = 101, 102, 0


def test_an_item_text_drops_repeats_and_punctuation() -> None:
    """Lower case, words once, most telling part first; a point stays inside a number and goes at a word's end."""
    assert item_text("Milk 1.5 lt.", "MILK.") == "milk 1.5 lt"
    assert item_text("ICE - CRUSHED/CUBED", "FRZN ICE", None, "National", "22 LB") == "ice crushed cubed frzn national 22 lb"


def test_an_item_text_is_at_most_twenty_words() -> None:
    """The tail of a long title is what gets cut."""
    assert item_text(" ".join(f"w{i}" for i in range(30))).split() == [f"w{i}" for i in range(20)]


def test_chinese_text_keeps_its_characters() -> None:
    """Letters of any script are letters; full-width punctuation separates; digits and Latin units survive."""
    assert item_text("有机 牛奶(全脂)", "牛奶", "1.5L 装") == "有机 牛奶 全脂 1.5l 装"
    assert query_text("  红色,连衣裙! ", "buys x") == "红色 连衣裙"
    assert interest_text(["乳制品", "烘焙/面包"]) == "buys 乳制品, 烘焙 面包"


@pytest.mark.parametrize("query", ["Ñandú Größe", "Молоко 2%", "ΚΑΦΕΣ", "チョコレート", "قهوة", "हिन्दी", "น้ำผึ้ง", "cafe\u0301"])
def test_no_script_is_lost(query: str) -> None:
    """Every letter, digit and vowel sign of the query is still there, lower-cased, and no word falls apart."""
    assert query_text(query, "") == query.lower().replace("%", "")


def test_an_empty_query_reads_the_users_interests() -> None:
    """Blank or punctuation-only queries say nothing, so what the user buys stands in; a user without history gives ""."""
    for query in ("", "   ", "?!", "..."):
        assert query_text(query, "buys milk") == "buys milk"
    assert query_text("Milk!", "buys bread") == "milk"
    assert interest_text([]) == ""


@given(st.text(max_size=40))
def test_cleaning_is_idempotent(query: str) -> None:
    """A cleaned query is its own cleaned form, so it can be cached under its text."""
    once = query_text(query, "")
    assert query_text(once, "") == once


def test_equal_texts_share_a_digest_and_others_do_not() -> None:
    """The digest is a function of the text alone; nothing is 0 but the empty text."""
    assert text_digest("milk") == text_digest("milk") != text_digest("milk ")
    assert text_digest("") == 0


def test_a_pair_is_framed_and_padded() -> None:
    """[CLS] query [SEP] item [SEP] pad…, with the mask over what is real and type 1 over the item."""
    got = pair_tensors(np.array([7, 8]), np.array([[11, 12, 13], [21, 0, 0]], np.int32), SPECIAL)
    assert got["input_ids"].tolist() == [[CLS, 7, 8, SEP, 11, 12, 13, SEP], [CLS, 7, 8, SEP, 21, SEP, PAD, PAD]]
    assert got["attention_mask"].tolist() == [[1] * 8, [1] * 6 + [0] * 2]
    assert got["token_type_ids"].tolist() == [[0] * 4 + [1] * 4, [0] * 4 + [1] * 2 + [0] * 2]


def test_padding_uses_the_tokenizers_own_id() -> None:
    """A tokenizer whose padding is not 0 is padded with its id."""
    got = pair_tensors(np.array([7]), np.array([[11, 12], [21, 0]], np.int32), SpecialTokens(0, 2, 1))
    assert got["input_ids"].tolist() == [[0, 7, 2, 11, 12, 2], [0, 7, 2, 21, 2, 1]]


def test_an_item_without_text_and_a_query_without_tokens() -> None:
    """Nothing to read still gives a well-formed pair: [CLS] [SEP] [SEP]."""
    got = pair_tensors(np.array([], np.int64), np.zeros((1, 4), np.int32), SPECIAL)
    assert got["input_ids"].tolist() == [[CLS, SEP, SEP]]
    assert pair_tensors(np.array([7]), np.zeros((0, 4), np.int32), SPECIAL)["input_ids"].shape == (0, 4)


@given(st.integers(0, 2**32 - 1))
def test_width_is_the_longest_pair_and_trimming_loses_nothing(seed: int) -> None:
    """L = q + longest item + 3 with q cut at the limit, and the masked ids are exactly the framed pair."""
    rng = np.random.default_rng(seed)
    query = rng.integers(1000, 2000, int(rng.integers(0, MAX_QUERY_TOKENS + 9)))
    lengths = rng.integers(0, 7, 5)
    tokens = np.where(np.arange(8) < lengths[:, None], rng.integers(1000, 2000, (5, 8)), 0).astype(np.int32)
    got = pair_tensors(query, tokens, SPECIAL)
    kept = query[:MAX_QUERY_TOKENS].tolist()
    assert {a.dtype for a in got.values()} == {np.dtype(np.int64)}
    assert {a.shape for a in got.values()} == {(5, len(kept) + int(lengths.max()) + 3)}
    for row in range(5):
        real = got["attention_mask"][row] == 1
        assert got["input_ids"][row][real].tolist() == [CLS, *kept, SEP, *tokens[row, : lengths[row]].tolist(), SEP]
        assert got["token_type_ids"][row].sum() == lengths[row] + 1
