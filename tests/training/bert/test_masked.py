from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.bert.tiny_bert import SPECIAL, tiny
from training.bert.data import Collator, Pairs
from training.bert.fit import Settings
from training.bert.masked import MaskedLM, Masking, adapt

MASK, VOCABULARY = 103, 500
FAST = Settings(epochs=2, batch=8, learning_rate=3e-3, head_rate=1.0)


def texts(count: int = 64, *, seed: int = 0) -> Pairs:
    """Sentences of a language of five phrases, each broken off somewhere: what is hidden follows from what is not."""
    rng = np.random.default_rng(seed)
    starts = 110 + 60 * rng.integers(0, 5, count)
    seconds = [np.arange(start + 3, start + 3 + int(rng.integers(5, 12))) for start in starts]
    return Pairs.alone([np.arange(start, start + 3) for start in starts], seconds, {})


def masking(pairs: Pairs, *, seed: int = 0) -> Masking:
    return Masking(pairs, SPECIAL, mask=MASK, vocabulary=VOCABULARY, seed=seed)


def weights(encoder: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in encoder.named_parameters()}


def test_what_is_asked_is_hidden_and_the_rest_is_as_it_was() -> None:
    """Asked places hold their own token as the label; all others are shown as they are; frames and padding are never asked for."""
    pairs = texts(400)
    rows = list(range(400))
    plain, batch = Collator(pairs, SPECIAL)(rows), masking(pairs)(rows)
    ids, shown, labels = plain["input_ids"], batch["input_ids"], batch["labels"]
    asked = labels != -100
    assert torch.equal(labels[asked], ids[asked])
    assert torch.equal(shown[~asked], ids[~asked])
    frames = (ids == SPECIAL.cls) | (ids == SPECIAL.sep) | (ids == SPECIAL.pad)
    assert not asked[frames].any()
    for name in ("attention_mask", "token_type_ids"):
        assert torch.equal(batch[name], plain[name])
    n = int(asked.sum())
    share, hidden = n / int((~frames).sum()), (shown == MASK)[asked].float().mean()
    kept = (shown == ids)[asked].float().mean()
    assert share == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / int((~frames).sum())))
    assert float(hidden) == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / n))
    assert float(kept) == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / n))


def test_a_batch_is_masked_alike_whenever_it_is_made() -> None:
    """The mask follows from the seed and the rows: made again it is the same, of other rows or another seed it is not."""
    pairs = texts()
    make, rows = masking(pairs), [3, 5, 8, 13]
    first, _, again = make(rows)["labels"], make([1, 2]), make(rows)["labels"]
    assert torch.equal(first, again)
    assert not torch.equal(first, masking(pairs, seed=1)(rows)["labels"])
    assert not torch.equal(first, make([5, 3, 8, 13])["labels"])


def test_the_loss_is_that_of_a_projection_of_every_place() -> None:
    """Guessing only where tokens are asked for gives the mean cross-entropy that guessing everywhere gives."""
    torch.manual_seed(0)
    pairs = texts(16)
    model, batch = MaskedLM(tiny()).eval(), masking(pairs)(range(16))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        loss = model(**batch)["loss"]
        states = model.encoder(**inputs).last_hidden_state
        every = model.heads["tokens"](states) @ model.encoder.embeddings.word_embeddings.weight.T + model.bias
        wanted = nn.functional.cross_entropy(every.reshape(-1, VOCABULARY), batch["labels"].reshape(-1), ignore_index=-100)
    torch.testing.assert_close(loss, wanted)


def test_a_batch_in_which_nothing_is_asked_costs_nothing() -> None:
    model, batch = MaskedLM(tiny()), masking(texts(4))(range(4))
    loss = model(**batch | {"labels": torch.full_like(batch["labels"], -100)})["loss"]
    loss.backward()
    assert loss.item() == 0.0


def test_the_encoder_learns_the_language(tmp_path: Path) -> None:
    """The loss of hidden words falls well below where it began."""
    encoder, pairs = tiny(), texts(96)
    before = weights(encoder)
    ran = adapt(encoder, pairs, SPECIAL, tmp_path, mask=MASK, settings=replace(FAST, epochs=12))
    assert ran.history[-1][1] < 0.7 * ran.history[0][1]
    assert any(not torch.equal(before[name], now) for name, now in weights(encoder).items())
    assert ran.steps == 12 * 96 // 8


def test_interrupted_and_resumed_it_ends_where_it_would_have(tmp_path: Path) -> None:
    """Checkpoints carry the encoder, and the masks of the rest are those of a run that was never stopped."""
    settings = replace(FAST, checkpoints=5)
    whole, half = tiny(), tiny()
    adapt(whole, texts(), SPECIAL, tmp_path / "whole", mask=MASK, settings=settings)
    adapt(half, texts(), SPECIAL, tmp_path / "half", mask=MASK, settings=settings, stop_at=7)
    again = tiny()
    adapt(again, texts(), SPECIAL, tmp_path / "half", mask=MASK, settings=settings, resume=True)
    there, stopped, resumed = weights(whole), weights(half), weights(again)
    assert all(torch.equal(there[name], resumed[name]) for name in there)
    assert not all(torch.equal(there[name], stopped[name]) for name in there)
