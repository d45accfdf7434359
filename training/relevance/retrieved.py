"""What a catalogue's own answer to a query says of a candidate: whether the best matches are of its categories and of its brand.

Pseudo-relevance feedback: the best of all products by BM25 stand for what the query means, and a candidate is compared with them by its
place in the tree of categories. No judgment is read. Knows neither words nor queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranking.types import FloatArray, IntArray

TOP = 50
"""Products that stand for a query."""
LEVELS = 6
"""Parts of a category path that are looked at, widest first."""
_LIFTED = ("level1", "level3", "level5")  # neighbouring levels say nearly the same
_BROAD = 0.01  # added to both shares of a lift: a category of few products is no news by itself


@dataclass(frozen=True, slots=True)
class Groups:
    """What n products are of.

    Attributes:
        codes: (n, g) the group of each product in each of g divisions; −1 where it is in none.
        names: of the g divisions.
    """

    codes: IntArray
    names: tuple[str, ...]

    @classmethod
    def of(cls, paths: Sequence[Sequence[str]], brands: Sequence[str]) -> Groups:
        """Category paths cut after each level, and brands; an empty brand is none."""
        cut = [[tuple(path[: level + 1]) if len(path) > level else () for path in paths] for level in range(LEVELS)]
        columns = [_codes(level) for level in cut] + [_codes([(brand.lower(),) if brand else () for brand in brands])]
        return cls(np.column_stack(columns), (*(f"level{level + 1}" for level in range(LEVELS)), "brand"))


def features(scores: FloatArray, rows: IntArray, groups: Groups) -> dict[str, FloatArray]:
    """How a query's candidates stand to the best products of all.

    Args:
        scores: (n,) of all products for the query; those at 0 share nothing with it.
        rows: (m,) candidates.
        groups: of the n products.

    O(n log n).

    Returns:
        By division `retrieved_NAME`: the share, weighed as NDCG weighs places, of the best products that are in the candidate's group;
        `lift_NAME`, of some levels: its logarithm against the group's share of the catalogue; NaN where the candidate is in none.
        `retrieved_levels`: mean share over the levels of the path. `retrieved_place`: −log(1 + number of products that score higher).
    """
    order = np.argsort(-scores, kind="stable")
    top = order[:TOP]
    weights = 1.0 / np.log2(2.0 + np.arange(len(top)))
    weights = weights / weights.sum() * (scores[top] > 0)
    out: dict[str, FloatArray] = {}
    for name, codes in zip(groups.names, groups.codes.T, strict=True):
        sizes = codes.max() + 2
        share = np.bincount(codes[top] + 1, weights, sizes)  # (c + 1,), the first of those in no group
        usual = np.bincount(codes + 1, minlength=sizes) / len(codes)
        known = codes[rows] >= 0
        out[f"retrieved_{name}"] = np.where(known, share[codes[rows] + 1], np.nan)
        if name in _LIFTED:
            out[f"lift_{name}"] = np.where(known, np.log((share + _BROAD) / (usual + _BROAD))[codes[rows] + 1], np.nan)
    shares = np.stack([out[f"retrieved_level{level + 1}"] for level in range(LEVELS)])
    some = np.maximum((~np.isnan(shares)).sum(axis=0), 1)
    out["retrieved_levels"] = np.where(np.isnan(shares[0]), np.nan, np.nansum(shares, axis=0) / some)
    better = np.searchsorted(np.sort(-scores), -scores[rows], "left")  # equals share a place: the catalogue's order says nothing
    return out | {"retrieved_place": -np.log1p(better)}


def _codes(names: Sequence[tuple[str, ...]]) -> IntArray:
    """(n,) one number per name, −1 for an empty one."""
    seen: dict[tuple[str, ...], int] = {}
    return np.array([seen.setdefault(name, len(seen)) if name else -1 for name in names], np.int64)
