"""The pretrained sentence encoder read token by token, in two parts: lower layers that are never trained, and upper ones that may be.

States of the lower layers are the same whatever is fine-tuned above them, so they are computed once per text and kept on disk, named by
the texts' digest. Knows neither queries nor products.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.members import bi_encoder
from training.members.bert import pretrained, special_tokens
from training.stage import key_of
from training.tables.tokens import Tokens, tokenizer_file

UPPER = 2
"""Encoder layers that may be trained."""
LIMIT = 62
"""Ids of a text, less the two that frame it: longer titles are cut (1 in 200 of the shopping queries' products)."""
_BATCH = 64

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class States:
    """Token states of n texts, the framing tokens among them.

    Attributes:
        values: (t, d) float16 or float32, the texts' tokens one after the other.
        offsets: (n + 1,) where each text begins.
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, i: int) -> NDArray[Any]:
        """(t_i, d) of one text."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]


class Reader(Protocol):
    """What turns texts into token states."""

    def lower(self, texts: Sequence[str]) -> States:
        """States below the layers that may be trained, float16."""
        ...

    def upper(self) -> nn.Module:
        """A copy of the pretrained layers above, to be trained or not: (n, t, d) states and (n, t) mask to (n, t, d)."""
        ...


class Upper(nn.Module):
    """The encoder's last layers."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(n, t, d) float32 states and (n, t) bool, True where a token is; returns (n, t, d)."""
        hidden = torch.zeros(mask.shape, dtype=states.dtype).masked_fill(~mask, torch.finfo(states.dtype).min)[:, None, None, :]
        for layer in self.layers:
            states = layer(states, hidden)
        return states


class MiniLM:
    """all-MiniLM-L6-v2, loaded when first needed; states are kept in a folder where one is given."""

    def __init__(self, cache: Path | None = None, *, threads: int = 1) -> None:
        self._cache, self._threads = cache, threads
        self._encoder: Any = None
        self._tokens = Tokens()

    def lower(self, texts: Sequence[str]) -> States:
        if self._cache is None:
            return self._read(texts)
        path = self._cache / f"{digest(texts)}.npz"
        if not path.exists():
            states = self._read(texts)
            path.parent.mkdir(parents=True, exist_ok=True)
            building = path.with_name(f".{path.name}.{os.getpid()}")
            with building.open("wb") as file:
                np.savez(file, values=states.values, offsets=states.offsets)
            building.replace(path)
            return states
        with np.load(path, allow_pickle=False) as kept:
            return States(kept["values"], kept["offsets"])

    def upper(self) -> nn.Module:
        return Upper(copy.deepcopy(self._model().encoder.layer[-UPPER:])).eval()

    def _model(self) -> Any:
        if self._encoder is None:
            self._encoder = bi_encoder.load()
        return self._encoder

    def _read(self, texts: Sequence[str]) -> States:
        from tokenizers import Tokenizer

        special = special_tokens(Tokenizer.from_file(str(tokenizer_file())))
        framed = [np.concatenate([[special.cls], ids, [special.sep]]).astype(np.int64) for ids in self._tokens(texts, LIMIT)]
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in framed])]).astype(np.int64)
        model, before = self._model(), torch.get_num_threads()
        values = np.empty((int(offsets[-1]), model.config.hidden_size), np.float16)
        order = np.argsort([len(ids) for ids in framed], kind="stable")  # less padding per batch
        torch.set_num_threads(self._threads)
        try:
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                ids = torch.full((len(chosen), len(framed[chosen[-1]])), special.pad)
                mask = torch.zeros(ids.shape, dtype=torch.bool)
                for row, i in enumerate(chosen):
                    ids[row, : len(framed[i])] = torch.from_numpy(framed[i])
                    mask[row, : len(framed[i])] = True
                with torch.no_grad():
                    states = Upper(model.encoder.layer[:-UPPER])(model.embeddings(input_ids=ids), mask).numpy()
                for row, i in enumerate(chosen):
                    values[offsets[i] : offsets[i + 1]] = states[row, : len(framed[i])]
        finally:
            torch.set_num_threads(before)
        return States(values, offsets)


def digest(texts: Sequence[str]) -> str:
    """32 hex digits over the texts, the model's files (by name and size), the layer and the length texts are cut at."""
    files = {file.name: file.stat().st_size for file in sorted(pretrained().iterdir())}
    return key_of({"texts": list(texts), "model": files, "upper": UPPER, "limit": LIMIT})


def padded(states: States, chosen: Sequence[int] | NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, t, d) float32 states of some of the texts and their (n, t) bool mask."""
    lengths = [int(states.offsets[i + 1] - states.offsets[i]) for i in chosen]
    values = torch.zeros(len(lengths), max(lengths), states.values.shape[1])
    mask = torch.zeros(len(lengths), max(lengths), dtype=torch.bool)
    for row, (i, length) in enumerate(zip(chosen, lengths, strict=True)):
        values[row, :length] = torch.from_numpy(np.asarray(states.of(int(i)), np.float32))
        mask[row, :length] = True
    return values, mask


def finish(upper: nn.Module, states: States) -> States:
    """The last layer's states, float32: what the layers above make of those below. Texts of like length are read together."""
    out = np.empty(states.values.shape, np.float32)
    order = np.argsort(np.diff(states.offsets), kind="stable")
    with torch.no_grad():
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            values, mask = padded(states, chosen)
            done = upper(values, mask).numpy()
            for row, i in enumerate(chosen.tolist()):
                out[states.offsets[i] : states.offsets[i + 1]] = done[row, : states.offsets[i + 1] - states.offsets[i]]
    return States(out, states.offsets)
