"""Leak detectors: what must not be shared between the parts of a split, known to a feature, or dated after the question.

Each detector returns what it found as `Leak`s, nothing where all is well; `refuse` raises. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.metrics import roc_auc
from training.splits import distinct

_EXAMPLES = 3
_BINS = 64  # of a feature's values, when asking what it knows of the label


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which the answer got into the question."""

    kind: str  # "shared", "knows the label" or "from the future"
    where: str  # what was checked: "list", "query", "user-week", a feature's name
    count: int  # values or rows concerned
    detail: str  # a few of them, for people

    def __str__(self) -> str:
        return f"{self.where}: {self.kind} ({self.count}): {self.detail}"


class LeakFound(ValueError):  # noqa: N818 (reads as what happened, like the domain's errors)
    """A split or a feature matrix leaks.

    Attributes:
        leaks: all that was found.
    """

    def __init__(self, leaks: Sequence[Leak]) -> None:
        super().__init__("; ".join(map(str, leaks)))
        self.leaks = tuple(leaks)


def refuse(*found: Iterable[Leak]) -> None:
    """Raise when any detector found something.

    Raises:
        LeakFound: naming every leak.
    """
    leaks = [leak for some in found for leak in some]
    if leaks:
        raise LeakFound(leaks)


def shared(where: str, parts: NDArray[Any], *columns: Sequence[Any] | NDArray[Any]) -> list[Leak]:
    """Values, or combinations of several columns' values, that stand in more than one part.

    Lists, queries and (user, week) pairs must not; nor may whole rows, which finds copies made by resampling: give `x.T` unpacked.

    Args:
        where: what the columns name, for people.
        parts: (n,) part of each row.
        columns: each (n,); numbers and instants may be missing, and two missing ones are equal.

    Raises:
        ValueError: a column that is not one value per row, or in which a name is missing.
    """
    codes, size = np.zeros(len(parts), np.int64), 1
    for i, column in enumerate(columns):
        values = np.asarray(column)
        if values.shape != codes.shape:
            raise ValueError(f"columns: need one value per row, {where}'s column {i} has shape {values.shape} for {len(parts)} rows")
        if values.dtype.kind in "fmM":
            _, inverse = np.unique(values, return_inverse=True)
        else:
            _, _, inverse = distinct(f"columns: {where}'s column {i}", values)
        # Renumbered after each column, so that codes never exceed n².
        _, codes = np.unique(codes * (int(inverse.max(initial=0)) + 1) + inverse, return_inverse=True)
        size = int(codes.max(initial=-1)) + 1
    _, part = np.unique(np.asarray(parts), return_inverse=True)
    low, high = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    np.minimum.at(low, codes, part)
    np.maximum.at(high, codes, part)
    torn = np.flatnonzero(low < high)
    if not len(torn):
        return []
    rows = [int(np.flatnonzero(codes == t)[0]) for t in torn[:_EXAMPLES]]
    examples = ", ".join(" / ".join(str(np.asarray(column)[r]) for column in columns) for r in rows)
    return [Leak("shared", where, len(torn), f"in more than one part: {examples}")]


def knows_label(x: NDArray[Any], labels: NDArray[Any], names: Sequence[str], *, limit: float = 0.99) -> list[Leak]:
    """Features that alone tell the label apart nearly perfectly.

    A feature's values are cut into at most 64 bins by quantile (NaN is a bin of its own), the label's rate per bin is read on every other
    row and ranks the rows between: ROC-AUC of at least `limit` there is no luck. So a code or a gap that gives the label away is found
    like a number that rises with it, and an id, different in every row, is not mistaken for knowledge.

    Args:
        x: (n, d) features.
        labels: (n,) 0 or 1.
        names: (d,).
        limit: ROC-AUC from which a feature is too good; honest features of rare purchases reach about .93.

    Raises:
        ValueError: shapes that do not fit.
    """
    x, y = np.asarray(x, np.float64), np.asarray(labels).astype(np.float64)
    if x.ndim != 2 or x.shape != (len(y), len(names)):
        raise ValueError(f"x: must be ({len(y)}, {len(names)}), is {x.shape}")
    order = np.argsort(y, kind="stable")  # alternate within each label, so that both halves have both
    read, judge = order[::2], order[1::2]
    if len(np.unique(y[judge])) < 2:
        return []
    found = []
    for column, name in zip(x.T, names, strict=True):
        bins = _bins(column)
        size = int(bins.max()) + 1
        counts = np.bincount(bins[read], minlength=size)
        rates = (np.bincount(bins[read], y[read], minlength=size) + y.mean()) / (counts + 1.0)
        auc = roc_auc(rates[bins[judge]], labels[judge])
        if auc >= limit:
            found.append(Leak("knows the label", name, len(y), f"ROC-AUC {auc:.3f} by itself"))
    return found


def from_the_future(where: str, known_at: NDArray[np.datetime64], asked_at: NDArray[np.datetime64]) -> list[Leak]:
    """Rows whose feature was known only at or after the instant of the question: it must have been strictly before.

    Args:
        where: the feature or view, for people.
        known_at: (n,) when the value became known; NaT where there is none.
        asked_at: (n,) when the row's list was asked for.
    """
    late = np.flatnonzero(np.asarray(known_at) >= np.asarray(asked_at))  # NaT compares false
    if not len(late):
        return []
    examples = ", ".join(f"row {r}: {known_at[r]} for a list of {asked_at[r]}" for r in late[:_EXAMPLES])
    return [Leak("from the future", where, len(late), examples)]


def _bins(column: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) bin of each value: its own where there are few values, else by quantile; NaN last."""
    values = np.unique(column[~np.isnan(column)])
    if len(values) > _BINS:
        values = np.unique(np.quantile(column[~np.isnan(column)], np.linspace(0, 1, _BINS + 1)[1:], method="higher"))
    return np.where(np.isnan(column), len(values), np.searchsorted(values, column)).astype(np.int64)
