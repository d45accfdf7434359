"""One open snapshot: features of a whole list in a few array reads, shared with every other process that has it open.

Rows are read while another process may be writing them. The file counts its writes, and each row its own, odd while it is written: where
the file's count is odd or moved while rows were read, the rows' own are looked at, and one that was being written is read again and then
counts as unknown. A row half written is never served. That needs stores to be seen in the order they are made, as x86-64 guarantees.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures
from ranking.features import stable_key
from ranking.types import FloatArray
from services.snapshot.checks import check_content, check_counts
from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.keys import find, guess, hash_ids
from services.snapshot.layout import ITEMS, PAGE, REFERENCES, SHARED, Blocks, Format, Header, size
from services.snapshot.memo import Memo
from services.snapshot.table import features_of

_TRIES = 4  # reads of a row that is being written, before it counts as unknown


class Snapshot:
    """A file, mapped; it stays readable after another took its name. Safe for any number of threads."""

    def __init__(self, header: Header, blocks: Blocks, form: Format) -> None:
        """See `open`."""
        self.header, self._form = header, form
        self.blocks = blocks
        self._hashes: NDArray[np.uint64] = blocks.entries["rows"]["hash"]
        self._shared = [(blocks.words[name], blocks.entries[name].dtype) for name in SHARED]
        self._memo = Memo(header.capacity["rows"])
        self.names: Mapping[int, str] = Names(blocks, header.sorted_names)

    @classmethod
    def open(cls, path: Path, form: Format = ITEMS) -> Snapshot:
        """Map a file after checking all of it; reads it once, about a second per GB.

        Raises:
            InvalidSnapshotError: it is not there, or not a whole snapshot of this schema; says which.
        """
        try:
            with path.open("rb") as file:
                header = Header.from_bytes(path, file.read(PAGE))
                if header.schema != form.schema:
                    raise InvalidSnapshotError(path, f"is of feature schema {header.schema}, this process has {form.schema}")
                there, wanted = os.fstat(file.fileno()).st_size, size(header.capacity, form)
                if there != wanted:
                    raise InvalidSnapshotError(path, f"is truncated or longer than it was made: {there} bytes instead of {wanted}")
                blocks = Blocks(header, form, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
                check_content(path, header, blocks, file.fileno())
        except OSError as error:
            raise InvalidSnapshotError(path, f"cannot be read: {error.strerror}") from None
        return cls(header, blocks, form)

    def __len__(self) -> int:
        """Items."""
        return max(min(int(self.blocks.state["rows"][0]), self.header.capacity["rows"]) - 1, 0)

    @property
    def as_of(self) -> float:
        """When the feature store had what stands here, in seconds since 1970."""
        return float(self.blocks.state["as_of"][0])

    def check(self, path: Path) -> None:
        """Whether the file can still be what was opened: its length and its counts. Cheap, and reads no row.

        Raises:
            InvalidSnapshotError: it was overwritten or truncated where it is mapped.
        """
        there, wanted = self.blocks.length(), size(self.header.capacity, self._form)
        if there != wanted:  # first of all: the pages of a shorter file must not be touched
            raise InvalidSnapshotError(path, f"was truncated or grew while it was mapped: {there} bytes instead of {wanted}")
        check_counts(path, self.header, self.blocks)

    def ids(self) -> Iterator[str]:
        """Every item there is a row of."""
        ends = self.blocks.id_ends[: len(self) + 1].tolist()
        return (self.blocks.ids[a:b].tobytes().decode() for a, b in pairwise(ends))

    def gather(self, item_ids: Sequence[str]) -> tuple[ItemFeatures, FloatArray, NDArray[np.bool_]]:
        """Features of a list; the arrays are the caller's.

        Args:
            item_ids: (n,)

        Returns:
            (n,) features, declared defaults where the item is unknown; (views, n) event times, NaN where a view has no row; (n,) whether
            the item is known.
        """
        blocks = self.blocks
        remembered = self._memo.get(item_ids)
        hashes, found = remembered or self._looked_up(item_ids)
        taken = self._taken(found)
        rows = taken.view(blocks.entries["rows"].dtype).ravel()
        if np.count_nonzero(rows["hash"] == hashes) < np.count_nonzero(found):  # half of a hash is not the hash
            found = self._find(hashes)
            taken = self._taken(found)
            rows = taken.view(blocks.entries["rows"].dtype).ravel()
        places = taken.T[REFERENCES].astype(np.intp, order="C")
        filled = blocks.filled.copy()  # read after the rows: an entry is counted before a row points to it
        if np.count_nonzero(np.maximum.reduce(places, axis=1, initial=0) >= filled):  # damage: such a row says nothing
            astray = (places >= filled[:, None]).any(axis=0)
            found[astray] = 0
            taken[astray] = blocks.words["rows"][0]
            places[:, astray] = blocks.words["rows"][0, REFERENCES, None]
        texts, groups, tastes, times = (
            words.take(at, axis=0, mode="clip").view(dtype).ravel() for (words, dtype), at in zip(self._shared, places, strict=True)
        )
        features = features_of(rows, texts, groups, tastes)
        known = found > 0
        if remembered is None:
            self._memo.put(item_ids, hashes, found)
        if np.count_nonzero(found) < len(found):
            unknown = np.flatnonzero(~known)
            features.keys[unknown] = [stable_key(item_ids[i]) for i in unknown.tolist()]
        return features, times["times"].T, known

    def _looked_up(self, item_ids: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """(n,) hashes, and rows that are theirs if the rows say so, too."""
        hashes = hash_ids(item_ids, self.header.seed)
        found = guess(hashes, self.blocks.index)
        return hashes, self._find(hashes) if found is None else found

    def _find(self, hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The rows of hashes, among those filled."""
        return find(hashes, self.blocks.index, self._hashes[: len(self) + 1])

    def _taken(self, found: NDArray[np.intp]) -> NDArray[np.uint32]:
        """Records of the rows `found` as words, none of them half written; those that stay so count as unknown, in `found` too."""
        blocks = self.blocks
        writes = blocks.state["writes"]
        before = int(writes[0])
        taken = blocks.words["rows"].take(found, axis=0, mode="clip")
        if before & 1 or int(writes[0]) != before:  # some row was being written
            taken = self._whole(found)
        return taken

    def _whole(self, found: NDArray[np.intp]) -> NDArray[np.uint32]:
        """As `_taken`, row by row."""
        versions, words = self.blocks.entries["rows"]["version"], self.blocks.words["rows"]
        for _ in range(_TRIES):
            before = versions.take(found, mode="clip")
            taken: NDArray[np.uint32] = words.take(found, axis=0, mode="clip")
            torn = (before != versions.take(found, mode="clip")) | (before & 1).astype(bool)
            if not torn.any():
                return taken
        found[torn] = 0  # row 0 is never written
        return words.take(found, axis=0, mode="clip")


class Names(Mapping[int, str]):
    """What attribute keys stand for, read from the file when asked for."""

    def __init__(self, blocks: Blocks, ordered: int) -> None:
        """Nothing is read yet.

        Args:
            blocks: the file.
            ordered: how many of its names stand in the order of their keys; those added since follow.
        """
        self._blocks = blocks
        self._ordered = ordered
        self._read: dict[int, str] = {0: ""}  # what an item without the attribute has

    def __getitem__(self, key: int) -> str:
        text = self._read.get(key)
        if text is None:
            text = self._read[key] = self._text(self._place(key))
        return text

    def __iter__(self) -> Iterator[int]:
        return iter(self._blocks.name_keys[: len(self)].tolist())

    def __len__(self) -> int:
        return int(self._blocks.state["names"][0])

    def _place(self, key: int) -> int:
        keys = self._blocks.name_keys
        at = int(np.searchsorted(keys[: self._ordered], key))
        if at < self._ordered and keys[at] == key:
            return at
        added = np.flatnonzero(keys[self._ordered : len(self)] == key)
        if not len(added):
            raise KeyError(key)
        return self._ordered + int(added[0])

    def _text(self, place: int) -> str:
        ends = self._blocks.name_ends
        return self._blocks.names[int(ends[place - 1]) if place else 0 : int(ends[place])].tobytes().decode()
