"""The score table: scores by what was asked and the item text's digest, in memory that any number of processes may share.

Nothing is locked. An entry is three words, its tag, its payload and a check word of all that it belongs to; a reader that meets words of
two entries finds that the check does not fit, and takes the entry for absent. What is lost that way is scored again; what is found is
always what some process wrote for this very key (but for 2^-64 a look, by chance).

A key has 128 bits: 64 are the tag, and of the other 64 the check word has exactly one value per payload, so that it stands for them too.
Sets of `WAYS` entries, the one used longest ago goes. Knows nothing of files, models or requests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray

WAYS = 8
WORDS = 3  # tag, payload, check
ENTRY_BYTES = 8 * WORDS
CLAIM_S = 3
"""Seconds after which a claim is nobody's: longer than a list's texts take, and than a caller waits."""
_REFRESH_S = 60  # a use is written down if the last one was longer ago: readers that write for each use would take memory from one another
_CLAIM = 0x7FC00000  # the bits of a NaN, whose lower 22 have the claimant's process id: as a score it is none
_PID = 0x003FFFFF
_LOW = 0xFFFFFFFF
_HIGH = np.uint64(0xFFFFFFFF00000000)
# Odd: multiplication by them can be undone, so no two payloads of one key have the same check. From the digits of π and e.
_BY_TAG, _BY_REST, _BY_PAYLOAD, _PLUS = 0x243F6A8885A308D3, 0x13198A2E03707345, 0xB7E151628AED2A6B, 0xA4093822299F31D1

Words = NDArray[np.uint64]


class Asked(NamedTuple):
    """What a score depends on besides the item's text."""

    model: str
    version: int
    digest: str  # of the model's file: a version number given anew must not find the old model's scores
    text: str


class _Keys(NamedTuple):
    tags: Words  # (n,)
    rest: Words  # (n,)


class ScoreTable:
    """A fixed number of entries in arrays that the caller owns. In a process it lives on one thread."""

    def __init__(self, words: Words, *, clock: Callable[[], float] = time.time, pid: int | None = None) -> None:
        """Use the arrays as they are; zeros are an empty table.

        Args:
            words: (WORDS, sets, WAYS), shared or not.
            clock: seconds since 1970.
            pid: of this process, by which others know whose a claim is.
        """
        self._tags, self._payloads, self._checks = words
        self._flat = [array.reshape(-1) for array in words]
        self._sets = int(words.shape[1])
        self._clock = clock
        self._pid = (os.getpid() if pid is None else pid) & _PID

    @classmethod
    def private(cls, capacity: int, **options: Any) -> ScoreTable:
        """A table of this process alone."""
        return cls(np.zeros((WORDS, sets(capacity), WAYS), np.uint64), **options)

    def __len__(self) -> int:
        """Entries there is room for."""
        return self._sets * WAYS

    def get(self, asked: Asked, digests: IntArray) -> FloatArray:
        """(n,) log-odds of each item text, float32's values; NaN where not known. About 50 µs for 100 and 110 µs for 1,000."""
        at, payloads, there = self._look(keys := _keys(asked, digests))
        scores = np.where(there, (payloads >> 32).astype(np.uint32).view(np.float32), np.nan).astype(np.float64)  # a claim is a NaN
        now = self._now()
        if (old := ~np.isnan(scores) & (_age(payloads, now) > _REFRESH_S)).any():
            used: Words = (payloads[old] & _HIGH) | np.uint64(now)
            self._write(at[old], _Keys(keys.tags[old], keys.rest[old]), used)
        return scores

    def put(self, asked: Asked, digests: IntArray, scores: FloatArray) -> None:
        """Remember scores, (n,) with finite values of float32, of distinct texts; NaN is not remembered, so that it is asked again."""
        known = ~np.isnan(scores)
        if known.any():
            self._insert(_keys(asked, digests[known]), scores[known].astype(np.float32).view(np.uint32))

    def claim(self, asked: Asked, digests: IntArray) -> None:
        """Say that this process is getting the scores of these distinct texts. A hint: two processes may both say so."""
        self._insert(_keys(asked, digests), np.full(len(digests), _CLAIM | self._pid, np.uint32))

    def disclaim(self, asked: Asked, digests: IntArray) -> None:
        """Take claims of this process back."""
        at, payloads, there = self._look(keys := _keys(asked, digests))
        mine = there & (payloads >> 32 == np.uint64(_CLAIM | self._pid))
        expired: Words = payloads[mine] & _HIGH  # as old as can be
        self._write(at[mine], _Keys(keys.tags[mine], keys.rest[mine]), expired)

    def claimants(self, asked: Asked, digests: IntArray) -> IntArray:
        """(n,) process that is getting each text's score; 0 where none is, this one is, or said so more than `CLAIM_S` ago."""
        _, payloads, there = self._look(_keys(asked, digests))
        bits: Words = payloads >> np.uint64(32)
        claimed = there & (bits & np.uint64(_CLAIM) == _CLAIM) & (_age(payloads, self._now()) <= CLAIM_S)
        pids = (bits & np.uint64(_PID)).astype(np.int64)
        return np.where(claimed & (pids != self._pid), pids, 0)

    def _now(self) -> int:
        return int(self._clock()) & _LOW

    def _look(self, keys: _Keys) -> tuple[IntArray, Words, NDArray[np.bool_]]:
        """(n,) places in the flat arrays, the payloads there, and whether they are the keys'."""
        rows = self._rows(keys)
        ways = (self._tags.take(rows, axis=0) == keys.tags[:, None]).argmax(axis=1)
        at = rows * WAYS + ways
        tags, payloads, checks = [array.take(at) for array in self._flat]
        return at, payloads, (tags == keys.tags) & (checks == _check(keys, payloads))

    def _rows(self, keys: _Keys) -> IntArray:
        return ((keys.tags ^ (keys.tags >> 32)) % np.uint64(self._sets)).astype(np.int64)

    def _insert(self, keys: _Keys, bits: NDArray[np.uint32]) -> None:
        """Over the entry of the same tag, else over the one used longest ago; of keys that share a set each over another one."""
        now, rows = self._now(), self._rows(keys)
        same = self._tags[rows] == keys.tags[:, None]  # (n, WAYS)
        oldest = np.argsort(~_age(self._payloads[rows], now), axis=1, kind="stable")  # (n, WAYS)
        known = same.any(axis=1)
        taken = np.where(same, WAYS, 0)  # an entry that is written over as its own is nobody else's victim, if it can be helped
        oldest = np.take_along_axis(oldest, np.argsort(np.take_along_axis(taken, oldest, axis=1), axis=1, kind="stable"), axis=1)
        ways = np.where(known, same.argmax(axis=1), oldest[np.arange(len(rows)), _turns(rows) % WAYS])
        payloads: Words = (bits.astype(np.uint64) << np.uint64(32)) | np.uint64(now)
        self._write(rows * WAYS + ways, keys, payloads)

    def _write(self, at: IntArray, keys: _Keys, payloads: Words) -> None:
        tags, held, checks = self._flat
        tags[at] = keys.tags
        held[at] = payloads
        checks[at] = _check(keys, payloads)


def sets(capacity: int) -> int:
    """Sets of a table with room for `capacity` scores."""
    return max(-(-capacity // WAYS), 1)


def _keys(asked: Asked, digests: IntArray) -> _Keys:
    """128 bits a text: with two words of the question's digest, each of which is one-to-one in the item's."""
    question = "\0".join((asked.model, str(asked.version), asked.digest, asked.text)).encode()
    first, second = np.frombuffer(blake2b(question, digest_size=16).digest(), np.uint64)
    texts = np.ascontiguousarray(digests, np.int64).view(np.uint64)
    return _Keys(texts ^ first, texts + second)


def _check(keys: _Keys, payloads: Words) -> Words:
    check: Words = keys.tags * np.uint64(_BY_TAG) + keys.rest * np.uint64(_BY_REST) + payloads * np.uint64(_BY_PAYLOAD) + np.uint64(_PLUS)
    return check


def _age(payloads: Words, now: int) -> NDArray[np.uint32]:
    """Seconds since the payloads' last use; of one in a time to come, after the clock was set back, as if it were very old."""
    return np.uint32(now) - payloads.astype(np.uint32)  # cut to 32 bits: modulo 2^32, as is the difference


def _turns(rows: IntArray) -> IntArray:
    """(n,) how many before each have the same row."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.maximum.accumulate(np.where(np.append(True, ordered[1:] != ordered[:-1]), np.arange(len(rows)), 0))
    out = np.empty(len(rows), np.int64)
    out[order] = np.arange(len(rows)) - starts
    return out
