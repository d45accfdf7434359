"""Mixed columns as one continuous space, and back: where distances, interpolations and generators work.

Continuous and integer columns are scaled; a categorical column becomes one column per category. What comes back is a row of the
original kind: a category that was seen, a whole number where numbers were whole. Knows no labels and no method.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

HOT = 2**-0.5
"""Value of the column of the row's own category: two rows of different categories are then as far apart as one standard deviation."""

_QUANTILES = 1000  # knots of a column's distribution; fewer where there are fewer rows


@dataclass(frozen=True, slots=True)
class Columns:
    """What kind each feature is; the rest is continuous.

    Attributes:
        categorical: indices of columns that hold codes; their order means nothing.
        integer: indices of columns that hold whole numbers; generated values are rounded, so they may leave the convex hull of
            the rows they come from by less than one half, never the column's range.
        scaling: ``standard`` (mean 0, deviation 1; keeps straight lines straight) or ``quantile`` (each column to a normal
            distribution; for heavy tails, the range is kept, straight lines are not).
    """

    categorical: tuple[int, ...] = ()
    integer: tuple[int, ...] = ()
    scaling: Literal["standard", "quantile"] = "standard"

    def __post_init__(self) -> None:
        if self.scaling not in ("standard", "quantile"):
            raise ValueError(f"scaling: {self.scaling!r} is not one of standard, quantile")
        both = set(self.categorical) & set(self.integer)
        if both:
            raise ValueError(f"columns: {min(both)} is named categorical and integer")


class Encoder:
    """Fitted on rows, it turns rows of that kind into (n, e) float32 and back.

    Attributes:
        columns: d.
        width: e.
        numeric: number of leading encoded columns that are numbers.
        blocks: (start, stop) of each categorical column's encoded columns, after the numeric ones.
    """

    def __init__(self, rows: NDArray[np.float32], columns: Columns) -> None:
        """Fit.

        Args:
            rows: (n, d) rows, n ≥ 1, finite.
            columns: kinds of the d columns.

        Raises:
            ValueError: a column is out of range or holds NaN or infinity.
        """
        d = rows.shape[1]
        wrong = [c for c in (*columns.categorical, *columns.integer) if not 0 <= c < d]
        if wrong:
            raise ValueError(f"columns: {wrong[0]} is not a column of rows with {d} features")
        broken = np.flatnonzero(~np.isfinite(rows).all(axis=0))
        if len(broken):
            raise ValueError(f"features: column {broken[0]} holds NaN or infinity, which has no distance to anything; fill it first")
        self.columns = d
        self._categorical = columns.categorical
        self._numbers = np.setdiff1d(np.arange(d), columns.categorical)
        self._integer = np.isin(self._numbers, columns.integer)  # (d_numeric,)
        numbers = rows[:, self._numbers].astype(np.float64)
        self._low, self._high = numbers.min(axis=0), numbers.max(axis=0)
        self._scaler = _scaler(columns.scaling, numbers)
        self._categories = [np.unique(rows[:, c]) for c in columns.categorical]
        self.numeric = len(self._numbers)
        stops = np.cumsum([self.numeric, *map(len, self._categories)])
        self.blocks = [(int(a), int(b)) for a, b in pairwise(stops)]
        self.width = int(stops[-1])

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, e) of (n, d); a category that was not fitted is nowhere hot."""
        out = np.empty((len(rows), self.width), np.float32)
        if self.numeric and len(rows):
            out[:, : self.numeric] = self._scaler.transform(rows[:, self._numbers].astype(np.float64))
        for c, values, (start, stop) in zip(self._categorical, self._categories, self.blocks, strict=True):
            out[:, start:stop] = np.float32(HOT) * (rows[:, c, None] == values)
        return out

    def decode(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) of (n, e): numbers unscaled and integers rounded, both kept within the fitted range, the hottest category taken."""
        out = np.empty((len(encoded), self.columns), np.float32)
        if self.numeric and len(encoded):
            numbers = self._scaler.inverse_transform(encoded[:, : self.numeric].astype(np.float64))
            numbers = np.where(self._integer, np.rint(numbers), numbers)
            out[:, self._numbers] = np.clip(numbers, self._low, self._high)
        for c, values, (start, stop) in zip(self._categorical, self._categories, self.blocks, strict=True):
            out[:, c] = values[encoded[:, start:stop].argmax(axis=1)]
        return out


def _scaler(name: str, numbers: NDArray[np.float64]) -> Any:
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

    if name == "standard":
        scaler: Any = StandardScaler()
    else:
        scaler = QuantileTransformer(n_quantiles=min(_QUANTILES, len(numbers)), output_distribution="normal", subsample=None)
    return scaler.fit(numbers) if numbers.shape[1] else scaler
