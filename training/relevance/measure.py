"""What a ranking of judged lists is worth: NDCG with its interval, queries with a negation apart, whose products it shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.metrics.flat import ndcg_of_lists, share_of_lists
from ranking.metrics.intervals import Interval, bootstrap_interval, paired_bootstrap_interval
from ranking.types import TIERS, FloatArray
from training.relevance.catalogue import Catalogue
from training.relevance.judged import Lists

PAGE = 10
DRAWS, SEED = 2000, 17


def ndcg(scores: FloatArray, lists: Lists, *, k: int = PAGE) -> FloatArray:
    """(L,) NDCG@k with linear gains; NaN where no product suits."""
    return ndcg_of_lists(scores, lists.gains, lists.offsets, k=k)


def figures(scores: FloatArray, lists: Lists, catalogue: Catalogue, negated: NDArray[np.bool_]) -> dict[str, Any]:
    """All figures of one ranking, ready for JSON; None where nothing can be said.

    Args:
        scores: (N,).
        lists: judged.
        catalogue: of the lists' products.
        negated: (L,) queries that say what is not wanted.
    """
    short, full = ndcg(scores, lists), ndcg(scores, lists, k=int(np.diff(lists.offsets).max()))
    out: dict[str, Any] = {"queries": len(lists), "pairs": len(lists.items)}
    for name, values in (("ndcg10", short), ("ndcg", full)):
        out[name], out[f"{name}_interval"] = _told(bootstrap_interval(values, SEED, n=DRAWS))
    for name, some in (("negation", negated), ("no_negation", ~negated)):
        value, interval = _told(bootstrap_interval(short[some], SEED, n=DRAWS))
        out[name] = {"queries": int(some.sum()), "ndcg10": value, "ndcg10_interval": interval}
    tiers = catalogue.tiers[lists.items]
    out["exposure"] = {
        tier: {
            "shown": _number(float(np.nanmean(share_of_lists(scores, tiers == code, lists.offsets, k=PAGE)))),
            "of_candidates": _number(float((tiers == code).mean())),
        }
        for code, tier in enumerate(TIERS)
    }
    return out


def difference(ours: FloatArray, theirs: FloatArray, lists: Lists) -> tuple[float | None, list[float] | None]:
    """Mean difference of NDCG@10 on the same queries, with its interval: queries are drawn again."""
    return _told(paired_bootstrap_interval(ndcg(ours, lists), ndcg(theirs, lists), SEED, n=DRAWS))


def _told(interval: Interval) -> tuple[float | None, list[float] | None]:
    value = _number(interval.value)
    return value, None if value is None else [round(interval.low, 4), round(interval.high, 4)]


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
