"""Adapting an encoder to a domain by reading its texts: masked tokens are guessed (Devlin et al. 2019, section 3.1). Needs no label.

What is masked follows from the seed and the rows of a batch alone, so that a run can be resumed; only masked places are projected onto the
vocabulary, which is most of the cost otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranking.text import SpecialTokens
from training.bert.data import Collator, Pairs
from training.bert.fit import Fitted, Settings, fit
from training.bert.heads import Task
from training.tables.tokens import tokenizer_file

SHARE = 0.15
"""Of the tokens that are guessed; of these 8 in 10 are hidden, 1 in 10 is another token, and 1 in 10 stays."""
_NOT_ASKED = -100  # cross-entropy's word for a place without a label
SETTINGS = Settings(epochs=2, learning_rate=2e-4, head_rate=5.0, batch=32)


class MaskedLM(nn.Module):
    """An encoder, and a head that guesses tokens with the encoder's own embeddings as output weights.

    Stands where `fit` expects `Heads`, with no task: its labels are the tokens.
    """

    tasks: tuple[Task, ...] = ()

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.heads = nn.ModuleDict({"tokens": nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))})
        self.bias = nn.Parameter(torch.zeros(encoder.config.vocab_size))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, labels: torch.Tensor, **_: Any
    ) -> dict[str, torch.Tensor]:
        """(n, L) ids and the tokens that are asked for, -100 elsewhere: the mean cross-entropy of these as `loss`."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        asked = labels != _NOT_ASKED
        guesses = nn.functional.linear(self.heads["tokens"](states[asked]), self.encoder.embeddings.word_embeddings.weight, self.bias)
        return {"loss": nn.functional.cross_entropy(guesses.float(), labels[asked], reduction="sum") / asked.sum().clamp(min=1)}


class Masking(Collator):
    """Batches with tokens hidden, and the hidden ones as `labels`."""

    def __init__(self, pairs: Pairs, special: SpecialTokens, *, mask: int, vocabulary: int, seed: int) -> None:
        super().__init__(pairs, special)
        self.mask, self.vocabulary, self.seed = mask, vocabulary, seed

    def __call__(self, places: Sequence[int]) -> dict[str, torch.Tensor]:
        batch = super().__call__(places)
        rng = np.random.default_rng([self.seed, *places])
        ids = batch["input_ids"].numpy()
        own = ~np.isin(ids, [self.special.cls, self.special.sep, self.special.pad])
        asked = own & (rng.random(ids.shape) < SHARE)
        labels, fate = np.where(asked, ids, _NOT_ASKED), rng.random(ids.shape)
        hidden = np.where(asked & (fate < 0.8), self.mask, ids)
        others = rng.integers(0, self.vocabulary, ids.shape)
        shown = np.where(asked & (fate >= 0.9), others, hidden)
        return batch | {"input_ids": torch.from_numpy(shown), "labels": torch.from_numpy(labels)}


def adapt(
    encoder: Any,
    texts: Pairs,
    special: SpecialTokens,
    out: Path,
    *,
    mask: int | None = None,
    settings: Settings = SETTINGS,
    resume: bool = False,
    stop_at: int = 0,
    what: str = "masked language model",
) -> Fitted:
    """Train the encoder on texts, in place; the head is thrown away.

    Args:
        encoder: a `BertModel`.
        texts: pairs of texts; labels are not read.
        special: framing ids.
        out: where checkpoints lie.
        mask: id of the token that hides another; default: the pretrained tokenizer's.
        settings: of the run.
        resume: go on from the newest checkpoint in `out`.
        stop_at: as of `fit`.
        what: name of the progress bar.

    Returns:
        How it went; its history is the loss in nats per hidden token.
    """
    bare = replace(texts, labels={})
    mask = mask_token() if mask is None else mask
    masking = Masking(bare, special, mask=mask, vocabulary=encoder.config.vocab_size, seed=settings.seed)
    encoder.requires_grad_(requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        model = MaskedLM(encoder)
    return fit(model, bare, special, out, settings=settings, collator=masking, resume=resume, stop_at=stop_at, what=what)


def mask_token() -> int:
    """Id of the pretrained tokenizer's token that hides another.

    Raises:
        ValueError: it has none.
    """
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(tokenizer_file())).token_to_id("[MASK]")
    if found is None:
        raise ValueError(f"{tokenizer_file()}: has no [MASK] token")
    return int(found)


def on_items(encoder: Any, items: Sequence[NDArray[np.int64]], special: SpecialTokens, out: Path, seed: int) -> None:
    """Adapt the encoder, in place, to items' texts, each read once an epoch however many lists it is in."""
    distinct = [*{text.tobytes(): text for text in items if len(text)}.values()]
    if not distinct:
        return
    nothing = [np.empty(0, np.int64)] * len(distinct)
    adapt(encoder, Pairs.alone(nothing, distinct, {}), special, out, settings=replace(SETTINGS, seed=seed), what="items' texts")


def none(encoder: Any, items: Sequence[NDArray[np.int64]], special: SpecialTokens, out: Path, seed: int) -> None:
    """The encoder as it is."""


Adaptation = Callable[[Any, Sequence[NDArray[np.int64]], SpecialTokens, Path, int], None]
"""`(encoder, items' token ids, framing ids, folder for checkpoints, seed)`: what an encoder does before it reads labels, in place."""
ADAPTATIONS: Mapping[str, Adaptation] = {"none": none, "masked": on_items}
