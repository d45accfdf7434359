"""What stands where in the file.

    header  magic, JSON about the file and its checksum; never changes
    state   how far each block is filled, as_of; the only other thing that changes are rows and what is added
    index   halves of the hashes of item ids in buckets, and their rows
    rows    one record per item: its scalars, and for what many items share the number of an entry of
    texts · groups · tastes · times      entries, each stored once and never changed
    ids · names                          strings, read only when somebody asks for them

Row 0 is the item nobody knows: declared defaults. Everything is little-endian and begins on a page.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures, item_features
from ranking.features import VIEWS, Entity, schema_hash
from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.keys import SLOTS, buckets

MAGIC = b"LTITEMS\x02"  # the last byte is the format's version
PAGE = 4096
LINE = 64
ITEM_VIEWS = tuple(v for v in VIEWS if v.entity is Entity.ITEM)
SHARED = ("texts", "groups", "tastes", "times")
"""Blocks of entries that rows point to, by the names of the rows' fields."""
REFERENCES = slice(5, 5 + len(SHARED))
"""Where a row's references stand among its 32-bit words."""
_FILLED = ("rows", *SHARED, "names", "id_bytes", "name_bytes")
STATE = np.dtype([("writes", "<u8"), ("as_of", "<f8"), *((name, "<u8") for name in _FILLED)])
_SHARED_COUNTS = slice(3, 3 + len(SHARED))  # among the state's 64-bit words
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PREFIX = struct.Struct("<8sII")  # magic, length of the JSON, its checksum


@dataclass(frozen=True, slots=True)
class Format:
    """What an item consists of. `ITEMS` is the one the platform has; benchmarks and tests make wider ones."""

    schema: str
    blank: ItemFeatures  # (1,) the item nobody knows
    views: int = len(ITEM_VIEWS)

    def records(self) -> dict[str, np.dtype[Any]]:
        """The dtype of a row and of an entry of each shared block."""
        scalars, tokens = self.blank.scalars.shape[1], self.blank.token_ids.shape[1]
        head = [("key", "<i8"), ("hash", "<u8"), ("version", "<u4"), *((name, "<u4") for name in SHARED), ("tier", "<i1")]
        plain = np.dtype([*head, ("pad", "V3"), ("scalars", "<f4", (scalars,))])
        keys = [("category", "<i8"), ("type", "<i8"), ("maker", "<i8"), ("attributes", "<i8", (self.blank.attribute_keys.shape[1],))]
        return {
            "rows": np.dtype([*plain.descr, *([("end", "V4")] if plain.itemsize % 8 else [])]),  # so that every key is aligned
            "texts": _lines([("digest", "<i8"), ("tokens", "<u2", (tokens,))]),
            "groups": _lines(keys),
            "tastes": np.dtype([("at", "<i8"), ("taste", "<f4", (self.blank.taste.shape[1],))]),
            "times": np.dtype([("times", "<f8", (self.views,))]),
        }


def _lines(fields: list[Any]) -> np.dtype[Any]:
    """A record that fills whole lines of the processor's cache where little is missing, so that none lies across one more."""
    plain = np.dtype(fields)
    missing = -plain.itemsize % LINE
    return np.dtype([*fields, ("end", f"V{missing}")]) if 0 < missing <= LINE // 4 else plain


ITEMS = Format(schema_hash(), item_features(np.zeros(1, np.int64), {}))


@dataclass(frozen=True, slots=True)
class Header:
    """What never changes in a file. Times in seconds since 1970."""

    schema: str
    boot: str  # of the machine that made it: rows updated in memory may not have reached the disk when it stopped
    generation: int  # one more than the file's it replaced
    created_at: float
    source: str  # what it was made from, in a few characters of whoever did
    seed: int  # of the ids' hashes
    rows: int  # when it was made
    sorted_names: int  # of the names, those in the order of their keys
    capacity: Mapping[str, int]  # of each of `_FILLED`
    checksum: int  # of everything behind the state, when it was made

    def to_bytes(self) -> bytes:
        """One page."""
        text = json.dumps(asdict(self)).encode()
        return (_PREFIX.pack(MAGIC, len(text), zlib.crc32(text)) + text).ljust(PAGE, b"\0")

    @classmethod
    def from_bytes(cls, path: Path, page: bytes) -> Header:
        """Read a header.

        Raises:
            InvalidSnapshotError: it is none, or damaged.
        """
        if len(page) < PAGE:
            raise InvalidSnapshotError(path, f"is no snapshot: {len(page)} bytes, a header has {PAGE}")
        magic, length, checksum = _PREFIX.unpack_from(page)
        if magic[:-1] != MAGIC[:-1]:
            raise InvalidSnapshotError(path, f"is no snapshot: begins with {magic!r}")
        if magic != MAGIC:
            raise InvalidSnapshotError(path, f"is of format {magic[-1]}, this process reads {MAGIC[-1]}")
        text = page[_PREFIX.size : _PREFIX.size + length]
        if zlib.crc32(text) != checksum:
            raise InvalidSnapshotError(path, "has a damaged header: the checksum is wrong")
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise InvalidSnapshotError(path, f"has a header that cannot be understood: {error}") from None


class Blocks:
    """The arrays of one mapped file."""

    def __init__(self, header: Header, form: Format, memory: mmap.mmap | bytearray) -> None:
        """Lay arrays over `memory`; read-only where it is."""
        self._memory = memory
        records, capacity = form.records(), header.capacity
        at = PAGE
        views: dict[str, NDArray[Any]] = {}
        for name, dtype, shape in _blocks(records, capacity):
            views[name] = np.ndarray(shape, dtype, memory, at)
            at += _paged(views[name].nbytes)
        self.state = views["state"]
        self.filled: NDArray[np.int64] = self.state.view("<i8")[_SHARED_COUNTS]
        """(len(SHARED),) how many entries there are of each shared block, as it stands now."""
        self.index: NDArray[np.uint64] = views["index"]
        self.entries = {name: views[name] for name in ("rows", *SHARED)}
        # As words, so that taking rows copies memory instead of values one by one.
        self.words = {name: a.view("<u4").reshape(len(a), -1) if len(a) else a for name, a in self.entries.items()}
        self.id_ends, self.ids = views["id_ends"], views["ids"]
        self.name_keys, self.name_ends, self.names = views["name_keys"], views["name_ends"], views["names"]

    def length(self) -> int:
        """Bytes the mapped file has now; touching what is missing of it would end the process."""
        return self._memory.size() if isinstance(self._memory, mmap.mmap) else len(self._memory)


def boot() -> str:
    """Which start of this machine this is; empty where the system does not say."""
    return _BOOT.read_text().strip() if _BOOT.exists() else ""


def size(capacity: Mapping[str, int], form: Format) -> int:
    """Bytes of a file."""
    return PAGE + sum(_paged(dtype.itemsize * int(np.prod(shape))) for _, dtype, shape in _blocks(form.records(), capacity))


def _blocks(records: Mapping[str, np.dtype[Any]], capacity: Mapping[str, int]) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    of = buckets(capacity["rows"])
    return [
        ("state", STATE, (1,)),
        ("index", np.dtype("<u8"), (of, SLOTS)),
        *((name, records[name], (capacity[name],)) for name in ("rows", *SHARED)),
        ("id_ends", np.dtype("<u4"), (capacity["rows"],)),
        ("ids", np.dtype("u1"), (capacity["id_bytes"],)),
        ("name_keys", np.dtype("<i8"), (capacity["names"],)),
        ("name_ends", np.dtype("<u4"), (capacity["names"],)),
        ("names", np.dtype("u1"), (capacity["name_bytes"],)),
    ]


def _paged(count: int) -> int:
    return -(-count // PAGE) * PAGE
