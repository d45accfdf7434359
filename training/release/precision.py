"""A text model in every precision it may be served in: made, and measured against the model in torch on real pairs.

Three forms: fp32 (ONNX), bf16 (the same file: OpenVINO computes it in bfloat16 where the processor does) and int8 (a file of its own).
What is beyond its bound (`ranking.variants.BOUNDS`) is not carried into a release. Knows no release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranking.errors import InvalidRelease
from ranking.text import PAIR_INPUTS, SpecialTokens
from ranking.variants import BF16, BOUNDS, FP32, INT8, Parity, beyond, parity
from training.bert.data import frame
from training.bert.variants import quantised
from training.members.bert import OUTPUT, export

PAIRS = 256  # measured on: enough for a maximum to mean something, a few seconds to score three times
_BATCH = 32
_FACTS = "precision.json"

Pairs = Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Precision:
    """One form of an exported model."""

    name: str
    model: Path  # its ONNX file
    parity: Parity

    @property
    def problem(self) -> str:
        """Why it cannot be served; empty where it can."""
        return beyond(self.parity, BOUNDS[self.name])


def export_all(ranker: nn.Module, folder: Path, pairs: Pairs) -> tuple[Precision, ...]:
    """Write a ranker's ONNX files into a folder, with what each precision loses.

    The parity of bfloat16 is torch's own bfloat16, not OpenVINO's: the host that trains need not have it, and OpenVINO then computes in
    float32 whatever it is told. Where a release is loaded its golden scores are held against the runtime itself.

    Args:
        ranker: trained, in evaluation mode: of a pair's three tensors it makes `logits` (n,).
        folder: of `model.onnx` and `model.int8.onnx`.
        pairs: real ones, tensor name -> (n, L).

    Raises:
        InvalidRelease: fp32 itself is beyond its bound.
    """
    plain, small = folder / "model.onnx", folder / "model.int8.onnx"
    export(ranker, plain)
    quantised(plain, small)
    want = _torch(ranker, pairs)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = _torch(ranker, pairs)
    made = (
        Precision(FP32, plain, parity(run(plain, pairs), want)),
        Precision(BF16, plain, parity(reduced, want)),
        Precision(INT8, small, parity(run(small, pairs), want)),
    )
    if made[0].problem:
        raise InvalidRelease(plain.name, f"{FP32} {made[0].problem}")
    facts = {p.name: {"model": p.model.name, "parity": p.parity.to_json()} for p in made}
    (folder / _FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return made


def sample(
    first: Sequence[NDArray[np.int64]],
    offsets: NDArray[np.int64],
    token_ids: NDArray[np.int32],
    digests: NDArray[np.int64],
    special: SpecialTokens,
    seed: int,
) -> dict[str, NDArray[np.int64]]:
    """At most `PAIRS` real pairs of lists, drawn without regard to labels.

    Args:
        first: (L,) token ids of each list's first text; an empty one has no pairs.
        offsets: (L + 1,) list boundaries.
        token_ids: (N, t) of all lists' items, right-padded with 0.
        digests: (N,) text digests; 0 means no text.
        special: framing ids.
        seed: of the draw.

    Returns:
        Tensor name -> (n, L).

    Raises:
        ValueError: there is no pair.
    """
    of_list = np.repeat(np.arange(len(first)), np.diff(offsets))
    readable = np.flatnonzero((digests != 0) & np.array([len(text) > 0 for text in first], bool)[of_list])
    if not len(readable):
        raise ValueError("lists: none has both a first text and an item with text, so that nothing can be compared")
    rows = np.random.default_rng(seed).choice(readable, min(PAIRS, len(readable)), replace=False)
    made = frame([first[of_list[i]] for i in rows], [token_ids[i][token_ids[i] != 0] for i in rows], special)
    return {name: made[name].numpy() for name in PAIR_INPUTS}


def read(folder: Path) -> tuple[Precision, ...]:
    """What `export_all` left in a folder.

    Raises:
        FileNotFoundError: nothing.
    """
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return tuple(Precision(name, folder / fact["model"], Parity.from_json(fact["parity"])) for name, fact in facts.items())


def run(path: Path, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """(n,) scores of an ONNX model for a feed of n rows, in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run([OUTPUT], {name: rows[at] for name, rows in feed.items()})[0] for at in _batches(feed)]
    return np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in parts])


def _torch(ranker: nn.Module, pairs: Pairs) -> NDArray[np.float64]:
    with torch.no_grad():
        parts = [ranker(*(torch.from_numpy(pairs[name][at]) for name in PAIR_INPUTS))["logits"].float() for at in _batches(pairs)]
    return torch.cat(parts).numpy().astype(np.float64)


def _batches(feed: Mapping[str, NDArray[Any]]) -> list[slice]:
    n = len(next(iter(feed.values())))
    return [slice(start, start + _BATCH) for start in range(0, n, _BATCH)]
