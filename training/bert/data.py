"""What a model with heads is trained on: texts in pairs, lists of them, and labels that may be unknown; framed as serving frames them.

The rule by which long texts are cut is `ranking.text.pair_tensors`': a text keeps its first tokens. The first text is cut there, at
`MAX_QUERY_TOKENS`; the second is cut when it is tokenised, items at `MAX_ITEM_TOKENS`, reviews at what fits the encoder. Knows no task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranking.features import MAX_QUERY_TOKENS
from ranking.text import PAIR_INPUTS, SpecialTokens, pair_tensors

Ids = NDArray[np.int64]
FRAME = 3  # [CLS], and [SEP] behind either text


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of texts in lists, with labels by task.

    Attributes:
        first: (p,) token ids of each pair's first text (query, interests, a review's title), without special tokens.
        second: (p,) of the second (item, a review's text).
        labels: task -> (p,) float32; NaN where it is unknown.
        offsets: (L + 1,) list boundaries. Pairs that stand alone are lists of one.
        features: (p, f) float32 numbers beside the texts, or None.
        images: (p, w) float32 image vectors, all NaN where a pair has none; or None.
    """

    first: Sequence[Ids]
    second: Sequence[Ids]
    labels: Mapping[str, NDArray[np.float32]]
    offsets: NDArray[np.int64]
    features: NDArray[np.float32] | None = None
    images: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        p = len(self.first)
        given: dict[str, Any] = {"second": self.second, **{f"labels.{k}": v for k, v in self.labels.items()}}
        given |= {k: v for k, v in (("features", self.features), ("images", self.images)) if v is not None}
        for name, values in given.items():
            if len(values) != p:
                raise ValueError(f"{name}: need one per pair ({p}), got {len(values)}")
        if self.offsets[0] != 0 or self.offsets[-1] != p or (np.diff(self.offsets) < 1).any():
            raise ValueError(f"offsets: must rise from 0 to {p}, without an empty list")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def alone(cls, first: Sequence[Ids], second: Sequence[Ids], labels: Mapping[str, NDArray[np.float32]], **more: Any) -> Pairs:
        """Pairs of which each is a list of its own."""
        return cls(first, second, labels, np.arange(len(first) + 1), **more)

    def lengths(self) -> NDArray[np.int64]:
        """(L,) tokens of each list's longest pair, framed."""
        each = np.array([min(len(a), MAX_QUERY_TOKENS) + len(b) + FRAME for a, b in zip(self.first, self.second, strict=True)], np.int64)
        return np.maximum.reduceat(each, self.offsets[:-1])

    def take(self, lists: NDArray[np.int64]) -> Pairs:
        """These lists, in this order."""
        sizes = np.diff(self.offsets)[lists]
        rows = np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in lists]) if len(lists) else np.empty(0, np.int64)
        return Pairs(
            [self.first[i] for i in rows],
            [self.second[i] for i in rows],
            {name: values[rows] for name, values in self.labels.items()},
            np.concatenate([[0], np.cumsum(sizes)]),
            None if self.features is None else self.features[rows],
            None if self.images is None else self.images[rows],
        )


class Dataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """One list per row, by its place: the collator does the work, for all lists of a batch at once."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> int:
        return i


class Collator:
    """Lists of pairs to one padded batch: BERT's three inputs, `labels` (n, tasks) and `lists` (n,), which list each pair is of."""

    def __init__(self, pairs: Pairs, special: SpecialTokens) -> None:
        self.pairs, self.special = pairs, special

    def __call__(self, places: Sequence[int]) -> dict[str, torch.Tensor]:
        batch = self.pairs.take(np.asarray(places, np.int64))
        out = frame(batch.first, batch.second, self.special)
        labels = np.stack([*batch.labels.values()], axis=1) if batch.labels else np.empty((len(batch.first), 0), np.float32)
        out["labels"] = torch.from_numpy(labels.astype(np.float32))
        out["lists"] = torch.from_numpy(np.repeat(np.arange(len(batch)), np.diff(batch.offsets)))
        out |= {k: torch.from_numpy(v) for k, v in (("features", batch.features), ("images", batch.images)) if v is not None}
        return out


def frame(first: Sequence[Ids], second: Sequence[Ids], special: SpecialTokens) -> dict[str, torch.Tensor]:
    """BERT's three inputs, each (n, L) int64, of n pairs: every row is what `pair_tensors` makes of it, padded to the longest."""
    rows = [pair_tensors(a, np.asarray(b, np.int32)[None], special) for a, b in zip(first, second, strict=True)]
    length = max(row["input_ids"].shape[1] for row in rows)
    out = {}
    for name in PAIR_INPUTS:
        padded = np.full((len(rows), length), special.pad if name == "input_ids" else 0, np.int64)
        for line, row in zip(padded, rows, strict=True):
            line[: row[name].shape[1]] = row[name][0]
        out[name] = torch.from_numpy(padded)
    return out


class Buckets(torch.utils.data.Sampler[int]):
    """The order of an epoch: batches of like length, in an order that follows from (seed, epoch) alone, so that a run can be resumed.

    Of rows that are `common` each epoch takes only a share, in turns: with a share of 1/2 two epochs read each of them once.
    """

    def __init__(
        self, lengths: NDArray[np.int64], batch: int, seed: int, *, common: NDArray[np.bool_] | None = None, share: float = 1.0
    ) -> None:
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share: must be above 0 and at most 1, got {share}")
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0
        often = np.zeros(len(lengths), bool) if common is None else common
        self.always = np.flatnonzero(~often)
        self.turns = np.random.default_rng(seed).permutation(np.flatnonzero(often))
        self.taken = int(np.ceil(share * len(self.turns)))

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.always) + self.taken

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        turn = np.take(self.turns, np.arange(self.epoch * self.taken, (self.epoch + 1) * self.taken), mode="wrap")
        order = rng.permutation(np.concatenate([self.always, turn]))
        block = 32 * self.batch  # sorted within a block, not over all rows: batches of one length are not batches of one kind
        parts = [order[i : i + block] for i in range(0, len(order), block)]
        whole = np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in parts])
        full = len(whole) // self.batch * self.batch  # the batch that is left over stays the last one
        shuffled = rng.permutation(whole[:full].reshape(-1, self.batch)).ravel()
        return iter(np.concatenate([shuffled, whole[full:]]).tolist())
