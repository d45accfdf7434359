"""From item ids to rows: a hash of all ids of a request at once, and an index of buckets two cache lines wide.

`ranking.features.stable_key` would do as a hash and takes half a millisecond for 500 ids; this one is numpy throughout. It decides only
where an item is found, never what a model sees. Two ids share its bits about as rarely as they share a stable key, and a seed drawn for
every file keeps anybody from choosing such ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.uint32]

SLOTS = 16  # of a bucket, a power of two: one in three lists of 500 has an item that is not where it belongs, with 8 every list would
LOAD = 0.5  # of the slots, when the table is full
NOWHERE = np.uint64(1)  # what an id hashes to that no index may hold
_U = np.uint64
_M1, _M2 = _U(0xFF51AFD7ED558CCD), _U(0xC4CEB9FE1A85EC53)  # MurmurHash3's finaliser (Appleby)
_HALF, _ONE = _U(32), _U(1)
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
    for at in range(8, int(length.max()) - 1, 8):
        more = (length > at + 1).nonzero()[0]
        word = words[before[more] + at] & _KEEP.take(length[more] - at, mode="clip")
        mixed = (hashes[more] ^ word) * _M1
        hashes[more] = mixed ^ (mixed >> _HALF)
    hashes *= _M2
    hashes |= _ONE  # 0 is an empty slot
    return hashes


def buckets(capacity: int) -> int:
    """How many buckets a table of `capacity` rows has."""
    return int(capacity / (SLOTS * LOAD)) + 1


def find(hashes: Hashes, index: Hashes, rows: Rows) -> NDArray[np.intp]:
    """(n,) the row of each hash, 0 for one that has none.

    Args:
        hashes: (n,) none of them 0.
        index: (b, SLOTS) hashes by bucket, filled from the left; a full bucket goes on in the next one.
        rows: (b, SLOTS) their rows.
    """
    flat = rows.reshape(-1)
    at = _home(hashes, len(index))
    there = index.take(at, axis=0)
    place = (there == hashes[:, None]).ravel().nonzero()[0]  # bucket of the list · SLOTS + slot
    if len(place) == len(hashes):
        all_found: NDArray[np.intp] = flat.take(at * SLOTS + (place & SLOTS - 1)).astype(np.intp)
        return all_found
    key = place // SLOTS
    found = np.zeros(len(hashes), np.intp)
    found[key] = flat.take(at[key] * SLOTS + place % SLOTS)
    more = there[:, -1] != 0
    more[key] = False
    left = more.nonzero()[0]
    while len(left):
        at[left] = (at[left] + 1) % len(index)
        there = index.take(at[left], axis=0)
        key, slot = (there == hashes[left, None]).nonzero()
        found[left[key]] = flat.take(at[left[key]] * SLOTS + slot)
        more = there[:, -1] != 0
        more[key] = False
        left = left[more]
    return found


def fill(hashes: Hashes, of_rows: Rows, index: Hashes, rows: Rows) -> None:
    """Put hashes into an empty index; where two are the same the first one's row is found."""
    left, used = np.sort(np.unique(hashes, return_index=True)[1]), np.zeros(len(index), np.intp)
    at = _home(hashes[left], len(index))
    while len(left):
        order = np.argsort(at, kind="stable")
        left, at = left[order], at[order]
        slot = np.arange(len(at)) - np.searchsorted(at, at) + used[at]
        fits = slot < SLOTS
        index[at[fits], slot[fits]] = hashes[left[fits]]
        rows[at[fits], slot[fits]] = of_rows[left[fits]]
        used += np.bincount(at[fits], minlength=len(index))
        left, at = left[~fits], (at[~fits] + 1) % len(index)


def free(one: np.uint64, index: Hashes) -> tuple[int, int]:
    """(bucket, slot) where a hash that the index lacks belongs."""
    at = int(_home(np.array([one]), len(index))[0])
    while (taken := int(np.count_nonzero(index[at]))) == SLOTS:
        at = (at + 1) % len(index)
    return at, taken


def _home(hashes: Hashes, of: int) -> NDArray[np.intp]:
    return (((hashes >> _HALF) * _U(of)) >> _HALF).astype(np.intp)
