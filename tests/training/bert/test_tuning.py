from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ranking.errors import UnknownName
from tests.training.bert.tiny_bert import SPECIAL, pairs, tiny
from training.bert.data import Collator
from training.bert.fit import Settings, fit
from training.bert.heads import task
from training.bert.model import Heads
from training.bert.tuning import METHODS, apply, count, plain, regulariser

ADDED = [name for name in METHODS if name not in ("full", "head")]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def states(encoder: object) -> torch.Tensor:
    batch = Collator(pairs(3), SPECIAL)(range(3))
    with torch.no_grad():
        return encoder(**{k: batch[k] for k in INPUTS}).last_hidden_state  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("name", METHODS)
def test_at_the_start_nothing_has_changed(name: str) -> None:
    """Whatever a method adds, the encoder computes what it computed before."""
    before = states(tiny().eval())
    torch.testing.assert_close(states(apply(name, tiny(), 20).eval()), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_only_what_a_method_trains_moves(name: str, tmp_path: Path) -> None:
    """After training, every frozen weight is bit-equal to before, and something of what the method trains has moved."""
    model = Heads(apply(name, tiny(), 6), [task("list")])
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    fit(model, pairs(12), SPECIAL, tmp_path, settings=Settings(batch=4, learning_rate=1e-2, epochs=2))
    after = dict(model.named_parameters())
    assert all(torch.equal(before[n], after[n]) for n in frozen)
    moved = [n for n in before if n not in frozen and n.startswith("encoder.") and not torch.equal(before[n], after[n])]
    assert bool(moved) == (name != "head")


@pytest.mark.parametrize("name", ADDED)
def test_additions_are_a_small_part(name: str) -> None:
    """A method that adds trains fewer parameters than the encoder has, heads not counted; full tuning trains all of them."""
    added = count(apply(name, tiny(), 20))
    assert 0 < added.trainable < count(apply("full", tiny(), 20)).trainable
    assert added.share < 0.2  # of a tiny encoder; of MiniLM about a hundredth


@pytest.mark.parametrize("name", ["lora", "lora_everywhere", "adalora", "ia3", "full", "head"])
def test_additions_fold_into_plain_weights(name: str, tmp_path: Path) -> None:
    """After training, the plain encoder has BERT's own parameters only and computes the same."""
    model = Heads(apply(name, tiny(), 6), [task("list")])
    fit(model, pairs(12), SPECIAL, tmp_path, settings=Settings(batch=4, learning_rate=1e-2, epochs=2))
    tuned = states(model.encoder)
    folded = plain(model.encoder)
    assert {n for n, _ in folded.named_parameters()} == {n for n, _ in tiny().named_parameters()}
    torch.testing.assert_close(states(folded), tuned, atol=1e-4, rtol=1e-3)


def test_adalora_moves_its_ranks_and_pays_for_factors_that_are_not_orthogonal(tmp_path: Path) -> None:
    """By the end some singular values are cut to zero; only AdaLoRA has such a price."""
    encoder = apply("adalora", tiny(), 24)
    price = regulariser(encoder)
    assert price is not None
    assert float(price.detach()) > 0
    assert regulariser(apply("lora", tiny(), 24)) is None
    model = Heads(encoder, [task("list")])
    fit(model, pairs(24), SPECIAL, tmp_path, settings=replace(Settings(), batch=4, epochs=4, learning_rate=1e-2))
    values = torch.cat([p.detach().flatten() for n, p in encoder.named_parameters() if "lora_E" in n])
    assert 0.25 < float((values == 0).float().mean()) < 0.75  # of 8 each, 4 are kept on average


def test_an_unknown_method_is_answered_with_those_there_are() -> None:
    """The message names every method."""
    with pytest.raises(UnknownName, match="tuning: 'magic' is not known; known: adalora, adapters, full, head, ia3, lora, lora_everywhere"):
        apply("magic", tiny(), 1)
