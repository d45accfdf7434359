"""From item ids to rows: a hash of all ids of a request at once, and an index of buckets one cache line wide.

`ranking.features.stable_key` would do as a hash and takes half a millisecond for 500 ids; this one is numpy throughout. It decides only
where an item is found, never what a model sees. Two ids share its bits about as rarely as they share a stable key, and a seed drawn for
every file keeps anybody from choosing such ids.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Index = NDArray[np.uint64]
"""(buckets, SLOTS) from the left the row of a hash, and above it the hash's lower half; 0 where there is none. The whole hash stands in the
row, which is read anyway."""

SLOTS = 8  # of a bucket: 64 bytes, one line of the processor's cache
LOAD = 0.3125  # of the slots at most, when the table is full: one in fifteen lists of 500 has an item that is not where it belongs
PROBES = 64  # buckets looked at for one hash: so many full ones in a row are damage, at this load nothing else comes near
NOWHERE = np.uint64(1)  # what an id hashes to that no index may hold
_U = np.uint64
_M1, _M2 = _U(0xFF51AFD7ED558CCD), _U(0xC4CEB9FE1A85EC53)  # MurmurHash3's finaliser (Appleby)
_HALF, _ONE = _U(32), _U(1)
_ROWS = _U(1 << 32)  # more than any row
_KEEP = np.array([0, *((1 << (8 * n)) - 1 for n in range(9))], _U)  # masks of a word's first n bytes, by n + 1
_TAIL = bytes(9)  # a word read at an id's last byte ends within it


def hash_ids(item_ids: Sequence[str], seed: int) -> Hashes:
    """(n,) 64-bit hashes, none of them 0. O(n · longest id / 8), no Python per id.

    Args:
        item_ids: any strings; one with a NUL in it hashes to `NOWHERE`.
        seed: 64 bits.
    """
    n = len(item_ids)
    if not n:
        return np.empty(0, np.uint64)
    joined = ("\0" + "\0".join(item_ids)).encode() + _TAIL
    data = np.frombuffer(joined, np.uint8)
    before = (data == 0).nonzero()[0]  # the NULs before each id, and the tail
    if len(before) != n + len(_TAIL):
        whole = ["" if "\0" in item else item for item in item_ids]
        return np.where([w is item for w, item in zip(whole, item_ids, strict=True)], hash_ids(whole, seed), NOWHERE)
    words = np.ndarray((len(data) - 8,), "<u8", data, 1, (1,))  # the eight bytes that follow each byte
    length = before[1 : n + 1] - before[:n]  # of each id, and one
    before = before[:n]
    hashes: Hashes = words[before]
    hashes &= _KEEP.take(length, mode="clip")
    hashes ^= _U(seed)
    hashes *= _M1
    hashes ^= hashes >> _HALF
    for at in range(8, int(np.maximum.reduce(length)) - 1, 8):
        more = (length > at + 1).nonzero()[0]
        word = words[before[more] + at] & _KEEP.take(length[more] - at, mode="clip")
        mixed = (hashes[more] ^ word) * _M1
        hashes[more] = mixed ^ (mixed >> _HALF)
    hashes *= _M2
    hashes |= _ONE  # 0 is an empty slot
    return hashes


def buckets(capacity: int) -> int:
    """How many buckets a table of `capacity` rows has: a power of two, so that a hash's first bits are its bucket's number."""
    return 1 << max(math.ceil(math.log2(max(capacity, 1) / (SLOTS * LOAD))), 1)


def guess(hashes: Hashes, index: Index) -> NDArray[np.intp] | None:
    """(n,) the rows of hashes whose halves all stand where they belong, else None. A row's own hash must still be looked at, and whether
    there is such a row.

    As `find`, which it leaves the rest to: a few array reads, and no row is touched.
    """
    there = index.take(_home(hashes, len(index)), axis=0)
    there ^= (hashes << _HALF)[:, None]  # what is left of a slot with this lower half is its row
    there = there.ravel()
    place = (there < _ROWS).nonzero()[0]
    return there.take(place).view(np.intp) if len(place) == len(hashes) else None


def find(hashes: Hashes, index: Index, known: Hashes) -> NDArray[np.intp]:
    """(n,) the row of each hash, 0 for one that has none.

    Args:
        hashes: (n,) none of them 0.
        index: a full bucket goes on in the next one. Whatever stands there, the search ends after `PROBES` of them.
        known: (rows,) the hash of each row there is; a row beyond them is none.
    """
    at = _home(hashes, len(index))
    found = np.zeros(len(hashes), np.intp)
    left = np.arange(len(hashes))
    for _ in range(min(len(index), PROBES)):
        there = index.take(at[left], axis=0)
        more = there[:, -1] != 0
        there ^= (hashes[left] << _HALF)[:, None]
        key, slot = (there < _ROWS).nonzero()
        rows = there[key, slot].view(np.intp)
        right = (known.take(rows, mode="clip") == hashes[left[key]]) & (rows < len(known))
        found[left[key[right]]] = rows[right]
        more[key[right]] = False
        left = left[more]
        if not len(left):
            break
        at[left] = (at[left] + 1) % len(index)
    return found


def fill(hashes: Hashes, index: Index) -> None:
    """Put the hashes of rows 1, 2, … into an empty index; where two are the same the first one's row is found."""
    left, used = np.sort(np.unique(hashes, return_index=True)[1]), np.zeros(len(index), np.intp)
    at = _home(hashes[left], len(index))
    while len(left):
        order = np.argsort(at, kind="stable")
        left, at = left[order], at[order]
        slot = np.arange(len(at)) - np.searchsorted(at, at) + used[at]
        fits = slot < SLOTS
        index[at[fits], slot[fits]] = slots(hashes[left[fits]], left[fits].astype(np.uint64) + _ONE)
        used += np.bincount(at[fits], minlength=len(index))
        left, at = left[~fits], (at[~fits] + 1) % len(index)


def slots(hashes: Hashes, rows: NDArray[np.uint64]) -> Index:
    """(n,) what stands in the index for hashes and their rows."""
    return (hashes << _HALF) | rows


def rows_in(index: Index) -> NDArray[np.intp]:
    """Every row that can be found, ascending."""
    return np.sort(index[index != 0] & (_ROWS - _ONE)).astype(np.intp)


def free(one: np.uint64, index: Index) -> tuple[int, int]:
    """(bucket, slot) where a hash that the index lacks belongs.

    Raises:
        ValueError: there is none, which only damage brings about.
    """
    at = int(_home(np.array([one]), len(index))[0])
    for _ in range(len(index)):
        if (taken := int(np.count_nonzero(index[at]))) < SLOTS:
            return at, taken
        at = (at + 1) % len(index)
    raise ValueError("every bucket of the index is full")


def _home(hashes: Hashes, of: int) -> NDArray[np.intp]:
    return (hashes >> _U(65 - of.bit_length())).view(np.intp)
