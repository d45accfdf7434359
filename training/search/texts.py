"""What rankers are searched on: training lists of text pairs, and the lists the ensemble stage will ask them about. Knows no model."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.bert.data import Pairs

LABEL = "click"
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Lists to be scored: rows as in the ensemble's lists of the same name.

    Attributes:
        first: (L,) token ids of each list's first text; empty where there is none.
        second: (N,) token ids of each row's item; empty where it has no text.
        offsets: (L + 1,) list boundaries.
    """

    first: Sequence[Ids]
    second: Sequence[Ids]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.first) + 1 or self.offsets[0] != 0 or self.offsets[-1] != len(self.second):
            raise ValueError(f"offsets: must rise from 0 to {len(self.second)} over {len(self.first)} lists")

    def readable(self) -> NDArray[np.int64]:
        """Rows that have a text on both sides."""
        of = np.repeat(np.arange(len(self.first)), np.diff(self.offsets))
        return np.array([row for row, i in enumerate(of.tolist()) if len(self.first[i]) and len(self.second[row])], np.int64)

    def lists_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) the list of each row."""
        return np.searchsorted(self.offsets, rows, side="right") - 1


@dataclass(frozen=True, slots=True)
class TextData:
    """What every trial of rankers shares.

    Attributes:
        train: lists of training weeks, label `click`.
        askers: (L,) who asked: whole in one fold.
        parts: lists to be scored in the end, by name; nobody is trained on them.
    """

    train: Pairs
    askers: NDArray[np.int64]
    parts: Mapping[str, Part]

    def __post_init__(self) -> None:
        if len(self.askers) != len(self.train):
            raise ValueError(f"askers: need one per list ({len(self.train)}), got {len(self.askers)}")
        if set(self.train.labels) != {LABEL}:
            raise ValueError(f"labels: need {LABEL}, got {', '.join(self.train.labels) or 'none'}")


def save_texts(path: Path, data: TextData) -> None:
    """Write to one .npz, token ids of all texts one after another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **dict[str, Any](_flat(data)))


def load_texts(path: Path) -> TextData:
    """Read what `save_texts` wrote.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged, or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `python -m training.pipeline` makes it")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}

        def part(name: str) -> dict[str, Any]:
            return {
                "first": _ragged(arrays, f"{name}.first"),
                "second": _ragged(arrays, f"{name}.second"),
                "offsets": arrays[f"{name}.offsets"],
            }

        names = sorted({key.split(".")[1] for key in arrays if key.startswith("part.")})
        train = Pairs(labels={LABEL: arrays["labels"]}, **part("train"))
        return TextData(train, arrays["askers"], {name: Part(**part(f"part.{name}")) for name in names})
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError, IndexError) as error:  # each way of not being what was written
        raise ValueError(f"{path}: holds no texts of lists, or is damaged: {type(error).__name__}: {error}") from None


def digest_of(data: TextData) -> str:
    """What tells one set of texts from another: 12 hex digits of the names, types, shapes and bytes of all arrays."""
    found = hashlib.sha256()
    for name, array in sorted(_flat(data)):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()[:12]


def _flat(data: TextData) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "labels", data.train.labels[LABEL]
    yield "askers", data.askers
    parts: dict[str, Pairs | Part] = {"train": data.train, **{f"part.{name}": part for name, part in data.parts.items()}}
    for name, part in parts.items():
        yield f"{name}.offsets", part.offsets
        for side in ("first", "second"):
            texts = getattr(part, side)
            yield f"{name}.{side}.ids", np.concatenate([*texts, np.empty(0, np.int64)]).astype(np.int32)
            yield f"{name}.{side}.ends", np.cumsum([0, *map(len, texts)]).astype(np.int64)


def _ragged(arrays: Mapping[str, NDArray[Any]], name: str) -> list[Ids]:
    ids, ends = arrays[f"{name}.ids"].astype(np.int64), arrays[f"{name}.ends"]
    return [ids[a:b] for a, b in pairwise(ends)]
