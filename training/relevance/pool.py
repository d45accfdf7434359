"""What a product is within its list: how it stands among the candidates, and how near it is to those that look best. No label is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranking.types import FloatArray


def z_scores(values: FloatArray) -> FloatArray:
    """(n,) or (n, d) in standard deviations from the list's mean; an unknown value stands at the mean, equal ones at 0."""
    filled = _filled(values)
    return (filled - filled.mean(axis=0)) / (filled.std(axis=0) + 1e-6)


def ranks(values: FloatArray) -> FloatArray:
    """(n,) share of the list that is lower, equals sharing; an unknown value ranks as the mean."""
    filled = _filled(values)
    ordered = np.sort(filled)
    return (np.searchsorted(ordered, filled, "left") + np.searchsorted(ordered, filled, "right")) / (2.0 * len(filled))


def neighbourhood(similarity: FloatArray, strength: FloatArray) -> dict[str, FloatArray]:
    """How near each product is to the strongest others, and to all.

    Args:
        similarity: (n, n) of products with each other, symmetric.
        strength: (n,) how well each seems to suit; a product's own never counts for it.

    Returns:
        `near_top5`, `near_top10`: mean similarity to the 5 and 10 strongest others; `near_strong`: mean weighed by exp(strength);
        `near_all`: mean; `near_nearest`: mean of the 3 nearest. All 0 for a list of one.
    """
    n = len(strength)
    if n < 2:
        return {name: np.zeros(n) for name in ("near_top5", "near_top10", "near_strong", "near_all", "near_nearest")}
    others = similarity.astype(np.float64).copy()
    np.fill_diagonal(others, 0.0)
    weights = np.exp(strength - strength.max())
    without = weights.sum() - weights
    nearest = np.where(np.eye(n, dtype=bool), -np.inf, similarity)
    return {
        "near_top5": _near_top(others, strength, 5),
        "near_top10": _near_top(others, strength, 10),
        "near_strong": others @ weights / np.maximum(without, 1e-12),
        "near_all": others.sum(axis=1) / (n - 1),
        "near_nearest": -np.sort(-nearest, axis=1)[:, : min(3, n - 1)].mean(axis=1),
    }


def shared(names: Sequence[str], strength: FloatArray, *, top: int = 10) -> FloatArray:
    """(n,) share of the strongest others that have the same name (a brand, a category); 0 for an empty name."""
    codes = np.unique(np.array(names, dtype=str), return_inverse=True)[1]
    same = (codes[:, None] == codes) & np.array([bool(name) for name in names])[:, None]
    same = same.astype(np.float64)
    np.fill_diagonal(same, 0.0)
    return _near_top(same, strength, top)


def smoothed(scores: FloatArray, similarity: FloatArray, *, share: float, width: float) -> FloatArray:
    """(n,) scores of which `share` is the mean of the neighbours', weighed by exp((similarity − 1) / width) (Diaz 2005, section 3)."""
    weights = np.exp((similarity - 1.0) / width)
    return (1.0 - share) * scores + share * (weights @ scores) / weights.sum(axis=1)


def _near_top(others: FloatArray, strength: FloatArray, top: int) -> FloatArray:
    """(n,) mean of (n, n) values over the `top` strongest others."""
    n = len(strength)
    if n < 2:
        return np.zeros(n)
    order = np.argsort(-strength, kind="stable")
    top = min(top, n - 1)
    first = np.array([[j for j in order[: top + 1].tolist() if j != i][:top] for i in range(n)])
    return np.take_along_axis(others, first, axis=1).mean(axis=1)


def _filled(values: FloatArray) -> FloatArray:
    """Unknown values as the mean of the known ones of their column, 0 where none is."""
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, values, mean)
