"""Cold start with text: what text members are worth to an asker nobody knows, beside popularity alone.

Orders the test lists that the pipeline kept by columns that know no user: popularity, a text member's scores, and both. So every list is
ordered as for a household without a history. On SEARCH the text is the query's; a list of ADS has no query, and what its text members read
there is the household's own history, which a stranger does not have: that surface has no such table. Weights come from validation lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranking import metrics
from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.metrics import Interval, bootstrap_interval, paired_bootstrap_interval
from ranking.types import FloatArray, Surface
from training.artefacts import load_ensemble_data, load_lists
from training.lists.arrays import EvalLists
from training.members.registry import GIVEN
from training.relevance.ensemble import standardised
from training.toolbox.bench import NotBrought

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Of a text member's standardised scores beside those of popularity."""
PLACES = {"ndcg10": 10, "recall50": 50}
POPULARITY = "popularity"
_SOLD, _SEED = MODEL_COLUMNS.index("purchases_28d"), 7
_ORDERS = MODEL_COLUMNS.index("orders_all")


@dataclass(frozen=True, slots=True)
class Ordered:
    """One way to order the lists.

    Attributes:
        name: of it.
        weight: of the text beside popularity; None: it stands alone.
        figures: metric -> its mean with the interval.
        gains: metric -> the paired difference from popularity; none for popularity itself.
    """

    name: str
    weight: float | None
    figures: Mapping[str, Interval]
    gains: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON: [value, low, high] of every metric."""
        told = {name: {m: [one.value, one.low, one.high] for m, one in getattr(self, name).items()} for name in ("figures", "gains")}
        return {"name": self.name, "weight": self.weight, **told}


def measure(layout: Layout) -> tuple[dict[str, Any], dict[str, float]]:
    """The table and its figures, from the scores that the pipeline kept.

    Raises:
        NotBrought: the pipeline has not run.
    """
    scores = layout.training / "scores"
    if not (scores / "stage.json").is_file():
        raise NotBrought(f"{scores}: not there; `longtail train` makes it")
    test = load_lists(scores / f"{Surface.SEARCH.value}_test.npz")
    rows = compare(load_ensemble_data(scores / f"{Surface.SEARCH.value}.npz").select, test)
    figures = {f"cold_{m}_{row.name.replace(' ', '_')}_low": gain.low for row in rows for m, gain in row.gains.items()}
    known = test.features[test.offsets[:-1], _ORDERS]
    told = {
        "lists": len(test),
        "candidates": round(float(np.diff(test.offsets).mean()), 1),
        "fewest_orders": float(known.min()),
        "positives_by_tier": [int(test.labels[test.tiers == tier].sum()) for tier in range(3)],
        "rows": [row.to_json() for row in rows],
    }
    return told, figures


def compare(valid: EvalLists, test: EvalLists) -> list[Ordered]:
    """Popularity, each text member alone, and each beside popularity with the weight that is best on the validation lists."""
    plain = _values(test, popularity(test))
    rows = [Ordered(POPULARITY, None, _means(plain, test), {})]
    for member in (name for name in GIVEN if name in test.given):
        weight = max(WEIGHTS, key=lambda w: float(np.nanmean(_values(valid, beside(valid, member, w))["ndcg10"])))
        for name, chosen, scores in (
            (member, None, text(test, member)),
            (f"{POPULARITY} + {member}", weight, beside(test, member, weight)),
        ):
            found = _values(test, scores)
            gains = {m: paired_bootstrap_interval(v, plain[m], _SEED, groups=test.households) for m, v in found.items()}
            rows.append(Ordered(name, chosen, _means(found, test), gains))
    return rows


def popularity(lists: EvalLists) -> FloatArray:
    """(N,) purchases of the last four weeks, as logarithms, standardised within lists."""
    return standardised(np.log1p(np.nan_to_num(lists.features[:, _SOLD].astype(np.float64))), lists.offsets)


def text(lists: EvalLists, member: str) -> FloatArray:
    """(N,) a text member's scores, standardised within lists; what has no text is worst."""
    scores = lists.given[member]
    lowest = np.nanmin(scores) if np.isfinite(scores).any() else 0.0
    return standardised(np.where(np.isnan(scores), lowest, scores), lists.offsets)


def beside(lists: EvalLists, member: str, weight: float) -> FloatArray:
    """(N,) popularity and so much of the text."""
    return popularity(lists) + weight * text(lists, member)


def _values(lists: EvalLists, scores: FloatArray) -> dict[str, FloatArray]:
    """Metric -> (L,) values."""
    labels = lists.labels.astype(np.float64)
    of = {"ndcg10": metrics.ndcg_of_lists, "recall50": metrics.recall_of_lists}
    return {name: of[name](scores, labels, lists.offsets, k=k, ideal=lists.ideal_positives) for name, k in PLACES.items()}


def _means(values: Mapping[str, FloatArray], lists: EvalLists) -> dict[str, Interval]:
    return {name: bootstrap_interval(v, _SEED, groups=lists.households) for name, v in values.items()}
