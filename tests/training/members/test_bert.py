from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tokenizers import Tokenizer

from ranking.text import PAIR_INPUTS, SpecialTokens, pair_tensors
from training.bert import encoder
from training.members import bert


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(bert.pretrained() / "tokenizer.json"))
    tokenizer.no_padding()  # the file asks for 128 ids of every text
    return tokenizer


def _ids(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids[:24], np.int64)


def _padded(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    out = np.zeros((len(texts), 24), np.int32)
    for row, text in zip(out, texts, strict=True):
        ids = _ids(tokenizer, text)
        row[: len(ids)] = ids
    return out


def test_untrained_ranker_already_prefers_the_matching_item(tokenizer: Tokenizer) -> None:
    """The head starts from the pretrained encoder's similarity, so the right item leads before any training."""
    model = bert.PairRanker.from_pretrained(bert.pretrained()).eval()
    items = _padded(tokenizer, ["yogurt low fat 6 oz", "motor oil 5w30", "dog food dry"])
    feed = pair_tensors(_ids(tokenizer, "strawberry yogurt"), items, bert.special_tokens(tokenizer))
    with torch.no_grad():
        logits = model(*(torch.from_numpy(feed[n]) for n in PAIR_INPUTS))["logits"]
    assert int(logits.argmax()) == 0


def test_fine_tuning_learns_and_export_keeps_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """After a few steps positives score above negatives, and the ONNX file gives torch's scores whatever the padding."""
    queries = ("yogurt", "motor oil", "dog food", "bread")
    texts = ["yogurt low fat", "motor oil 5w30", "dog food dry", "bread wheat"]
    rng = np.random.default_rng(0)
    q, d = rng.integers(0, 4, 96), rng.integers(0, 4, 96)
    labels = (d == (q + 1) % 4).astype(np.int8)  # a rule that similarity alone gets wrong
    pairs = bert.Pairs(q, tuple(_ids(tokenizer, t) for t in queries), _padded(tokenizer, texts)[d], labels)
    special = bert.special_tokens(tokenizer)
    model = bert.fine_tune(pairs, special, tmp_path / "trainer", epochs=4, learning_rate=2e-4, batch_size=16, seed=1)
    bert.export(model, tmp_path / "model.onnx")

    offsets = np.arange(5) * 4
    every = np.tile(_padded(tokenizer, texts), (4, 1))
    digests = np.tile(np.arange(1, 5), 4)
    scores = bert.score(tmp_path / "model.onnx", pairs.query_ids, offsets, every, digests, special)
    by_list = scores.reshape(4, 4)
    right = by_list[np.arange(4), (np.arange(4) + 1) % 4]
    assert right.mean() > np.delete(by_list, [1, 6, 11, 12]).mean()

    feed = pair_tensors(pairs.query_ids[0], every[:4], special)
    with torch.no_grad():
        torch_scores = model(*(torch.from_numpy(feed[n]) for n in PAIR_INPUTS))["logits"].numpy()
    np.testing.assert_allclose(by_list[0], torch_scores, atol=1e-3)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_what_was_tuned_in_bf16_is_exported_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    """On a processor with bfloat16 it trains in it; the weights and the ONNX file are of float32 all the same, with torch's scores."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(encoder, "fast_bf16", lambda: bf16)
    small = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    monkeypatch.setattr(bert, "load", lambda path: encoder.untrained(path, **small))
    special = SpecialTokens(101, 102, 0)
    tokens = np.random.default_rng(0).integers(1000, 2000, (8, 5)).astype(np.int32)
    pairs = bert.Pairs(np.zeros(8, np.int64), (np.arange(1000, 1004),), tokens, np.tile([0, 1], 4).astype(np.int8))

    model = bert.fine_tune(pairs, special, tmp_path / "trainer", batch_size=4)
    untouched = bert.PairRanker.from_pretrained(bert.pretrained())
    start = untouched.head.weight.clone()
    untouched.load_state_dict(model.state_dict())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not torch.equal(model.head.weight, start)

    bert.export(model, tmp_path / "model.onnx")
    file = onnx.load(str(tmp_path / "model.onnx"))
    assert onnx.TensorProto.BFLOAT16 not in {tensor.data_type for tensor in file.graph.initializer}
    assert onnx.TensorProto.BFLOAT16 not in {a.i for node in file.graph.node if node.op_type == "Cast" for a in node.attribute}
    feed = pair_tensors(pairs.query_ids[0], tokens, special)
    with torch.no_grad():
        scores = [one.eval()(*(torch.from_numpy(feed[n]) for n in PAIR_INPUTS))["logits"] for one in (model, untouched)]
    torch.testing.assert_close(scores[0], scores[1], atol=0.0, rtol=0.0)


def test_without_text_there_is_no_score(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """An item without text (digest 0) or a list without a first text is NaN; the rest is scored."""
    model = bert.PairRanker.from_pretrained(bert.pretrained()).eval()
    bert.export(model, tmp_path / "model.onnx")
    tokens = _padded(tokenizer, ["bread", ""])
    queries, twice = (_ids(tokenizer, "bread"), _ids(tokenizer, "")), np.tile(tokens, (2, 1))
    scores = bert.score(
        tmp_path / "model.onnx", queries, np.array([0, 2, 4]), twice, np.array([7, 0, 7, 0]), bert.special_tokens(tokenizer)
    )
    assert np.isnan(scores).tolist() == [False, True, True, True]
