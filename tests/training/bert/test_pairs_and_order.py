from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranking.features import MAX_ITEM_TOKENS, MAX_QUERY_TOKENS
from ranking.text import PAIR_INPUTS, pair_tensors
from tests.training.bert.tiny_bert import SPECIAL, pairs
from training.bert.data import Buckets, Collator, Pairs, frame
from training.tables.tokens import Tokens


def test_a_batch_holds_the_rows_that_serving_makes() -> None:
    """Each row of a batch is `pair_tensors` of its pair, padded; nothing else is in it."""
    first = [np.array([7, 8]), np.array([], np.int64), np.arange(200, 240)]
    second = [np.array([9]), np.array([11, 12, 13]), np.array([14, 15])]
    made = frame(first, second, SPECIAL)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        served = pair_tensors(a, b.astype(np.int32)[None], SPECIAL)
        for name in PAIR_INPUTS:
            length = served[name].shape[1]
            np.testing.assert_array_equal(made[name][i, :length].numpy(), served[name][0])
            assert not made[name][i, length:].any()


def test_long_texts_are_cut_by_one_rule() -> None:
    """A text keeps its first tokens: 24 of the query, 24 of the item, in training as in serving."""
    tokens = Tokens()
    query, item = "red " * 40, "shoe " * 40
    (a,), (b,) = tokens([query], 100), tokens([item], MAX_ITEM_TOKENS)
    made = frame([a], [b], SPECIAL)["input_ids"][0]
    assert len(made) == MAX_QUERY_TOKENS + MAX_ITEM_TOKENS + 3
    served = pair_tensors(tokens([query], MAX_QUERY_TOKENS)[0], b.astype(np.int32)[None], SPECIAL)
    np.testing.assert_array_equal(made.numpy(), served["input_ids"][0])


def test_chinese_is_cut_into_characters() -> None:
    """Every character of a Chinese title is a token, so that a long one is cut like any other."""
    assert [len(ids) for ids in Tokens()(["红色连衣裙", "日本" * 40], 24)] == [5, 24]


def test_labels_and_lists_come_with_the_batch() -> None:
    """Labels stand in the order of the tasks, and every pair knows its list within the batch."""
    p = pairs(4, 3, click="", conversion="")
    batch = Collator(p, SPECIAL)([2, 0])
    assert batch["lists"].tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(batch["labels"][:, 0], torch.from_numpy(np.concatenate([p.labels["click"][6:9], p.labels["click"][:3]])))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"second": []}, r"second: need one per pair \(2\), got 0"),
        ({"labels": {"click": np.zeros(3, np.float32)}}, r"labels.click: need one per pair \(2\), got 3"),
        ({"offsets": np.array([0, 0, 2])}, "offsets: must rise from 0 to 2, without an empty list"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], said: str) -> None:
    """Pairs whose parts differ in number are refused, naming the part."""
    whole = {"first": [np.array([1])] * 2, "second": [np.array([2])] * 2, "labels": {}, "offsets": np.array([0, 2])}
    with pytest.raises(ValueError, match=said):
        Pairs(**(whole | change))  # type: ignore[arg-type]


@given(st.integers(1, 200), st.integers(1, 16), st.integers(0, 3), st.integers(0, 5))
def test_an_epoch_reads_every_list_once(lists: int, batch: int, seed: int, epoch: int) -> None:
    """Whatever the lengths, an epoch is a permutation, and the same for the same seed and epoch."""
    lengths = np.random.default_rng(seed).integers(3, 60, lists)
    order = Buckets(lengths, batch, seed)
    order.set_epoch(epoch)
    once = list(order)
    assert sorted(once) == list(range(lists))
    assert list(order) == once
    assert len(order) == lists


def test_batches_are_of_like_length() -> None:
    """Padding shrinks: within a batch lengths differ far less than over all lists."""
    lengths = np.random.default_rng(0).integers(3, 120, 640)
    order = np.array(list(Buckets(lengths, 16, 0))).reshape(-1, 16)
    spread = (lengths[order].max(axis=1) - lengths[order].min(axis=1)).mean()
    assert spread < 10.0 < np.ptp(lengths)


def test_common_lists_are_read_in_turns() -> None:
    """With a share of 1/4 four epochs read each common list once, and every other list four times."""
    common = np.arange(40) < 32
    order = Buckets(np.full(40, 9), 4, 0, common=common, share=0.25)
    seen = np.zeros(40, int)
    for epoch in range(4):
        order.set_epoch(epoch)
        np.add.at(seen, list(order), 1)
    assert (seen[:32] == 1).all()
    assert (seen[32:] == 4).all()
