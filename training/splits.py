"""Splits of rows into parts (training, validation, test …) that never cut a list in two, and are the same whatever the rows' order.

A row belongs to a list, and a list to one part. Which part follows from a stable hash of (seed, list), not from positions. Parts are
numbered from 0 in the order of the ratio. Knows nothing of features; `training.leaks` checks what was made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = ("train", "valid", "test")
RATIO = (5, 2, 3)
"""Of training, validation and test."""

Parts = NDArray[np.int8]
MOST = int(np.iinfo(np.int8).max) + 1
"""Parts that an int8 can number."""


def stratified(
    lists: Sequence[Any] | NDArray[Any], strata: Sequence[Any] | NDArray[Any], ratio: Sequence[float] = RATIO, *, seed: int = 0
) -> Parts:
    """Whole lists, so that every stratum is split by the ratio as nearly as whole lists allow.

    A stratum of m lists gives part p floor or ceil of its quota m · ratio_p / Σ ratio; what the floors leave goes to the parts with the
    largest remainders, earlier parts first (Hamilton's method). So a stratum of one list goes to the largest part.

    Args:
        lists: (n,) identity of each row's list; rows that stand alone are lists of their own.
        strata: (n,) stratum of each row: a category, a label, a tier. The same in all rows of a list.
        ratio: weight of each part, above 0.
        seed: another seed, another split.

    Returns:
        (n,) int8, the part of each row. O(n log n).

    Raises:
        ValueError: a ratio that is not of 1 to 128 positive numbers, lengths that differ, a list in two strata, or a list or stratum that
            is missing.
    """
    weights = _ratio(ratio)
    ids, first, of_row = distinct("lists", lists)
    names, _, stratum_of_row = distinct("strata", strata)
    if len(stratum_of_row) != len(of_row):
        raise ValueError(f"strata: {len(stratum_of_row)} rows, lists has {len(of_row)}")
    stratum = stratum_of_row[first]
    torn = np.flatnonzero(stratum_of_row != stratum[of_row])
    if len(torn):
        raise ValueError(f"strata: list {ids.tolist()[of_row[torn[0]]]!r} is in more than one stratum")
    order = np.lexsort((_hashes(ids, seed), stratum))
    part = np.empty(len(ids), np.int8)
    ends = np.cumsum(np.bincount(stratum, minlength=len(names)))
    for members in np.split(order, ends[:-1]):
        part[members] = np.repeat(np.arange(len(weights)), _quotas(len(members), weights))
    return part[of_row]


def by_group(groups: Sequence[Any] | NDArray[Any], ratio: Sequence[float] = RATIO, *, seed: int = 0) -> Parts:
    """Whole groups: give the rows' queries for a split by query, their users for one by user. Counts groups, not rows.

    Raises:
        ValueError: see `stratified`.
    """
    return stratified(groups, np.zeros(len(groups), np.int8), ratio, seed=seed)


def by_time(
    lists: Sequence[Any] | NDArray[Any], times: NDArray[Any], ratio: Sequence[float] = RATIO, *, cuts: Sequence[Any] | None = None
) -> Parts:
    """Earlier lists before later ones: every instant of a part is before every instant of the next part.

    Args:
        lists: (n,) identity of each row's list.
        times: (n,) when the row's list was shown: instants, weeks or any ordered numbers. The same in all rows of a list.
        ratio: weight of each part in lists; a cut that would fall among lists of one instant moves before them, so parts may be smaller.
        cuts: instead of the ratio: the first instant of each part after the first, ascending.

    Returns:
        (n,) int8, the part of each row. O(n log n).

    Raises:
        ValueError: lengths that differ, a list that is missing, at no time or at two, cuts that do not ascend or are more than 127, or a
            wrong ratio.
    """
    times = np.asarray(times)
    ids, first, of_row = distinct("lists", lists)
    if len(times) != len(of_row):
        raise ValueError(f"times: {len(times)} rows, lists has {len(of_row)}")
    unknown = np.flatnonzero(missing(times))
    if len(unknown):
        raise ValueError(f"times: list {ids.tolist()[of_row[unknown[0]]]!r} has no time in row {unknown[0]}")
    torn = np.flatnonzero(times != times[first][of_row])
    if len(torn):
        raise ValueError(f"times: list {ids.tolist()[of_row[torn[0]]]!r} is at more than one time")
    if cuts is None:
        ends = np.cumsum(_quotas(len(ids), _ratio(ratio)))[:-1]
        starts = np.sort(times[first])[ends[ends < len(ids)]]  # a part without any list never begins
    else:
        starts = np.asarray(cuts)
        if np.any(starts[1:] <= starts[:-1]):
            raise ValueError(f"cuts: must ascend, got {list(cuts)}")
        if len(starts) >= MOST:
            raise ValueError(f"cuts: at most {MOST - 1}, got {len(starts)}")
    return np.searchsorted(starts, times, side="right").astype(np.int8)


def _ratio(ratio: Sequence[float]) -> NDArray[np.float64]:
    weights = np.asarray(ratio, np.float64)
    if weights.ndim != 1 or not len(weights) or not np.all(np.isfinite(weights) & (weights > 0)):
        raise ValueError(f"ratio: must be positive numbers, one per part, got {list(ratio)}")
    if len(weights) > MOST:
        raise ValueError(f"ratio: at most {MOST} parts, got {len(weights)}")
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _quotas(m: int, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """(parts,) whole numbers that add up to m, each within one of its share."""
    exact = np.round(m * weights, 9)  # .3 · 10 is 3, whatever binary fractions say
    floors = np.floor(exact).astype(np.int64)
    best = np.argsort(floors - exact, kind="stable")[: m - int(floors.sum())]
    floors[best] += 1
    return floors


def missing(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) where there is no value: None, NaN, NaT."""
    v = np.asarray(values)
    if v.dtype.kind == "O":
        return np.array([x is None or bool(x != x) for x in v.tolist()], np.bool_)  # noqa: PLR0124 (only NaN and NaT differ from themselves)
    return np.isnan(v) if v.dtype.kind in "fcmM" else np.zeros(len(v), np.bool_)


def distinct(name: str, values: Sequence[Any] | NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Distinct values of (n,), ascending, the first row of each, and each row's place among them.

    Raises:
        ValueError: naming `name`: not one value per row, a value that is missing, or values that cannot be ordered.
    """
    v = np.asarray(values)
    if v.ndim != 1:
        raise ValueError(f"{name}: need one value per row, got shape {v.shape}")
    holes = np.flatnonzero(missing(v))
    if len(holes):
        raise ValueError(f"{name}: row {holes[0]} has none")
    try:
        ids, first, of_row = np.unique(v, return_index=True, return_inverse=True)
    except TypeError as error:
        raise ValueError(f"{name}: must be of one kind, so that they can be told apart: {error}") from error
    return ids, first, of_row


def _hashes(ids: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """(L,) stable 64-bit hashes of the ids' text and the seed."""
    prefix = hashlib.blake2b(f"{seed}:".encode(), digest_size=8)
    out = np.empty(len(ids), np.uint64)
    for i, name in enumerate(ids.tolist()):
        one = prefix.copy()
        one.update(str(name).encode())
        out[i] = int.from_bytes(one.digest(), "little")
    return out
