"""The one process that writes a snapshot: whole files, renamed into place, and single rows of the file that is there.

Killed at any moment it leaves a file that can be read: a new file gets its name when it is complete, an entry is added before a row points
to it, a row is complete before the index has it, and a row left half written is one whose version says so.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import ITEM_SCALARS
from ranking.types import FloatArray
from services.snapshot.errors import InvalidSnapshotError, SnapshotTakenError
from services.snapshot.files import About, drafts, publish
from services.snapshot.keys import NOWHERE, find, free, hash_ids, slots
from services.snapshot.layout import ITEM_VIEWS, ITEMS, PAGE, SHARED, Blocks, Format, Header
from services.snapshot.snapshot import Snapshot
from services.snapshot.table import Table, entries_of, features_of, kept, made, rows_of

_COLUMNS = {
    "category_key": "category_keys",
    "type_key": "type_keys",
    "maker_key": "maker_keys",
    "token_ids": "token_ids",
    "text_digest": "text_digests",
    "popularity_tier": "tiers",
    "taste": "taste",
    "taste_at": "taste_at",
    **dict.fromkeys(ITEM_ATTRIBUTES, "attribute_keys"),
}
VIEW_COLUMNS = tuple(
    (
        tuple(sorted({_COLUMNS[f.name] for f in view if f.name in _COLUMNS})),
        np.array([ITEM_SCALARS.index(f.name) for f in view if f.name in ITEM_SCALARS], np.intp),
    )
    for view in ITEM_VIEWS
)
"""For each item view, the columns of `ItemFeatures` it fills and its places among the scalars."""


class Writer:
    """Holds the lock of a snapshot until it is closed, or its process ends. Not thread-safe."""

    def __init__(self, path: Path, form: Format = ITEMS, *, spare: float = 0.125, clock: Callable[[], float] = time.time) -> None:
        """Take the lock and map what is there, if that can be read.

        Args:
            path: of the file; its folder is made.
            form: what an item consists of.
            spare: room for updates a new file gets, as a share of what is there.
            clock: seconds since 1970.

        Raises:
            SnapshotTakenError: another process has the lock.
        """
        self._path, self._form, self._spare, self._clock = path, form, spare, clock
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock")
        self._lock = lock.open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise SnapshotTakenError(lock) from None
        for draft in path.parent.glob(f"{drafts(path)}*"):  # of a writer that was killed
            draft.unlink(missing_ok=True)
        self._inode = 0
        self._snapshot: Snapshot | None
        try:
            self._snapshot, self.problem = self._mapped(), ""
        except InvalidSnapshotError as error:
            self._snapshot, self.problem = None, str(error)
        if (
            self._snapshot is not None and int(self._blocks().state["writes"][0]) & 1
        ):  # its last writer was killed at it: leave out what it was writing
            self._publish(kept(self._blocks()), self._snapshot.as_of, self._snapshot.header.source)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let another process write."""
        self._snapshot = None
        self._lock.close()

    def standing(self, *, whole: bool = False) -> bool:
        """Whether the file that is written to still stands under its name; one that is damaged is let go, and `problem` says why.

        One that was deleted, or replaced by another program, goes on being read and written to until the next build.

        Args:
            whole: read all of it, as when it was opened.
        """
        if self._snapshot is None:
            return False
        try:
            self._snapshot.check(self._path)
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_ino != self._inode:
                    return False
                Header.from_bytes(self._path, file.read(PAGE))
            if whole:
                Snapshot.open(self._path, self._form)
        except InvalidSnapshotError as error:
            self._snapshot, self.problem = None, str(error)
            return False
        except OSError:
            return False
        return True

    @property
    def snapshot(self) -> Snapshot | None:
        """The file as it is now; None, and `problem` says why, where there is none that can be read."""
        return self._snapshot

    def build(
        self,
        item_ids: Sequence[str],
        features: ItemFeatures,
        event_times: FloatArray,
        names: Mapping[int, str],
        *,
        as_of: float,
        source: str = "",
    ) -> None:
        """Replace the whole file.

        Args:
            item_ids: (n,) unique.
            features: (n,) theirs.
            event_times: (views, n) seconds since 1970, NaN where a view has no row; an item without any stays out.
            names: what attribute keys stand for; those of no item stay out.
            as_of: when the feature store had all this, in seconds since 1970.
            source: what it was made from, in a few characters, kept in the header.

        Raises:
            ValueError: an item stands there twice, or a token id does not fit 16 bits.
            OSError: no space, or the folder cannot be written.
        """
        self._publish(made(self._form, item_ids, features, event_times, names), as_of, source)

    def put(self, item_ids: Sequence[str], features: ItemFeatures, event_times: FloatArray, names: Mapping[int, str]) -> None:
        """Insert or replace rows in place, view by view; a view's older event time never overwrites a newer one.

        Args:
            item_ids: (n,)
            features: (n,) theirs.
            event_times: (views, n) seconds since 1970, NaN for what is not to be touched.
            names: what their attribute keys stand for.

        Raises:
            InvalidSnapshotError: there is no file yet that could be updated.
            ValueError: a token id does not fit 16 bits.
            OSError: the file is full and a larger one cannot be written.
        """
        for i, item in enumerate(item_ids):
            self._put(item, features.take(np.array([i])), event_times[:, [i]], names)

    def confirm(self, as_of: float) -> None:
        """The feature store was found to have, at `as_of`, what stands here.

        Raises:
            InvalidSnapshotError: there is no file.
        """
        self._blocks().state["as_of"] = as_of

    def _put(self, item: str, given: ItemFeatures, times: FloatArray, names: Mapping[int, str]) -> None:
        blocks = self._blocks()
        assert self._snapshot is not None
        hashed = hash_ids([item], self._snapshot.header.seed)
        row = int(find(hashed, blocks.index, blocks.entries["rows"]["hash"][: int(blocks.state["rows"][0])])[0])
        features, known, refs = self._stored(row)
        newer = (~np.isnan(times) & ~(times < known))[:, 0]
        if not newer.any() or hashed[0] == NOWHERE:
            return
        features.keys[:] = given.keys
        for (columns, scalars), due in zip(VIEW_COLUMNS, newer.tolist(), strict=True):
            if due:
                features.scalars[:, scalars] = given.scalars[:, scalars]
                for name in columns:
                    getattr(features, name)[:] = getattr(given, name)
        known[newer] = times[newer]
        said = {k: names[k] for k in features.attribute_keys[0].tolist() if k in names and k not in self._snapshot.names}
        if not self._fits(item, said):
            self._publish(kept(blocks), self._snapshot.as_of, self._snapshot.header.source)
            self._put(item, given, times, names)
            return
        blocks.state["writes"] += 1
        for key, text in said.items():
            self._name(key, text)
        record = rows_of(self._form, features)
        record["hash"] = hashed
        for name, entry in entries_of(self._form, features, known).items():
            record[name] = self._entry(name, entry, refs[name])
        if row:
            self._write_row(row, record)
        else:
            self._add_row(item, hashed[0], record)
        blocks.state["writes"] += 1

    def _stored(self, row: int) -> tuple[ItemFeatures, FloatArray, dict[str, int]]:
        """(1,) features of a row, its (views, 1) event times and the entries it points to; where it was left torn, those of nobody."""
        blocks = self._blocks()
        records = blocks.entries["rows"]
        record = records[[0 if records["version"][row] & 1 else row]]
        if any(int(record[name][0]) >= int(blocks.state[name][0]) for name in SHARED):  # damaged: it says nothing
            record = records[[0]]
        texts, groups, tastes, times = (blocks.entries[name][record[name]] for name in SHARED)
        features = features_of(record, texts, groups, tastes)
        return features, times["times"].T.copy(), {name: int(record[name][0]) for name in SHARED}

    def _fits(self, item: str, names: Mapping[int, str]) -> bool:
        """Whether one more of everything, these names and this id find room."""
        needed = dict.fromkeys(("rows", *SHARED), 1)
        needed |= {"id_bytes": len(item.encode()), "names": len(names), "name_bytes": sum(len(text.encode()) for text in names.values())}
        assert self._snapshot is not None
        state, capacity = self._blocks().state, self._snapshot.header.capacity
        return all(int(state[name][0]) + count <= capacity[name] for name, count in needed.items())

    def _entry(self, name: str, entry: NDArray[Any], stands: int) -> int:
        """Where an entry stands: where it did, or added."""
        blocks = self._blocks()
        if blocks.entries[name][stands].tobytes() == entry[0].tobytes():
            return stands
        at = int(blocks.state[name][0])
        blocks.entries[name][at] = entry[0]
        blocks.state[name] = at + 1
        return at

    def _write_row(self, row: int, record: NDArray[Any]) -> None:
        rows = self._blocks().entries["rows"]
        odd = int(rows["version"][row]) | 1
        rows["version"][row] = odd
        for name in record.dtype.names or ():
            if name != "version":
                rows[name][row] = record[name][0]
        rows["version"][row] = (odd + 1) & 0xFFFFFFFF

    def _add_row(self, item: str, hashed: np.uint64, record: NDArray[Any]) -> None:
        blocks = self._blocks()
        row, begin, text = int(blocks.state["rows"][0]), int(blocks.state["id_bytes"][0]), item.encode()
        blocks.ids[begin : begin + len(text)] = np.frombuffer(text, np.uint8)
        blocks.id_ends[row] = begin + len(text)
        blocks.state["id_bytes"] = begin + len(text)
        self._write_row(row, record)
        blocks.state["rows"] = row + 1
        blocks.index[free(hashed, blocks.index)] = slots(np.array([hashed]), np.array([row], np.uint64))[0]

    def _name(self, key: int, text: str) -> None:
        blocks = self._blocks()
        at, begin, written = int(blocks.state["names"][0]), int(blocks.state["name_bytes"][0]), text.encode()
        blocks.names[begin : begin + len(written)] = np.frombuffer(written, np.uint8)
        blocks.name_ends[at], blocks.name_keys[at] = begin + len(written), key
        blocks.state["name_bytes"] = begin + len(written)
        blocks.state["names"] = at + 1

    def _blocks(self) -> Blocks:
        if self._snapshot is None:
            raise InvalidSnapshotError(self._path, self.problem or "is not there: nothing was built yet")
        return self._snapshot.blocks

    def _publish(self, table: Table, as_of: float, source: str) -> None:
        generation = self._snapshot.header.generation + 1 if self._snapshot is not None else 1
        about = About(generation, as_of, self._clock(), source)
        publish(self._path, self._form, table, about, spare=self._spare)
        self._snapshot, self.problem = self._mapped(), ""

    def _mapped(self) -> Snapshot:
        """Open the file as every reader does, and then again to write to it."""
        header = Snapshot.open(self._path, self._form).header
        with self._path.open("r+b") as file:
            self._inode = os.fstat(file.fileno()).st_ino
            return Snapshot(header, Blocks(header, self._form, mmap.mmap(file.fileno(), 0)), self._form)
