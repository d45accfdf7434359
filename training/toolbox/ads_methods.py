"""What the ads benchmark varies, by name: columns, members, resamplers, and the list construction that keeps room for discovery.

Pure: knows neither where the data lie nor how methods are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ranking.features import MODEL_COLUMNS
from training.imbalance.resample import RESAMPLERS

BASE_COLUMNS: tuple[str, ...] = (
    *("age_code", "income_code", "household_size", "kids_count"),
    *("orders_28d", "spend_28d", "orders_all", "days_since_order", "mean_unit_price", "private_share", "distinct_items"),
    *("is_private", "purchases_7d", "purchases_28d", "purchases_all", "buyers_28d", "promo_impressions_28d", "promo_rate_28d"),
    *("price_28d", "discount_28d", "popularity_rank", "age_days", "on_display", "in_mailer"),
    *("tier_code", "repeat_count", "repeat_days", "repeat_share", "category_share", "price_to_level", "query_overlap"),
)
"""The columns of the schema before discovery features. Named one by one because the yardstick, one tuned LightGBM on plain features, must
not move when the schema grows: what is gained over it is what was added."""

ABLATIONS: Mapping[str, frozenset[str]] = {
    "discovery features": frozenset(MODEL_COLUMNS) - frozenset(BASE_COLUMNS),
    "repeat features": frozenset({"repeat_count", "repeat_days", "repeat_share", "relation", "relation_rate", "promo_rate_own"}),
    "text features": frozenset({"query_overlap", "category_share"}),
    "promotions": frozenset(
        {"on_display", "in_mailer"} | {c for c in MODEL_COLUMNS if c.startswith("promo_")} | {"first_purchase_rate", "relation_rate"}
    ),
}
"""What is left out -> the columns left out. Text is what the catalogue's words say: the category and the query's overlap."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a member is trained here.

    Attributes:
        name: in `training.members.registry.MEMBERS`.
        options: its options.
        lists: training lists at most, where time grows faster than the gain; 0: all.
        columns: of the schema; empty: all.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lists: int = 0
    columns: tuple[str, ...] = ()


BASELINE = "one tuned LightGBM"
TUNED: tuple[Mapping[str, Any], ...] = (
    {"learning_rate": 0.05, "rounds": 250, "leaves": 31},
    {"learning_rate": 0.05, "rounds": 200, "leaves": 63},
)
"""What the yardstick is tuned over, on validation lists, with a part of the training lists."""
TUNING = 5000  # training lists

RULES: Mapping[str, Recipe] = {name: Recipe(name) for name in ("popularity", "repeat_purchase", "interest_score", "discovery")}
WHOLE = "boosting"
"""The member that resamplers and ablations vary."""
_TREES = {"learning_rate": 0.05, "rounds": 200, "leaves": 31}
MEMBERS: Mapping[str, Recipe] = {
    WHOLE: Recipe("boosting", _TREES),
    "boosting_weighted": Recipe("boosting_weighted", _TREES),
    "lambdarank": Recipe("lambdarank", _TREES),
    "bagging": Recipe("bagging", {**_TREES, "rounds": 120, "bags": 3}),
    "logistic": Recipe("logistic"),
    "neural": Recipe("neural", {"epochs": 3, "batch": 4096}, lists=6000),
    "adaboost": Recipe("adaboost", {"rounds": 50, "depth": 2}, lists=1500),
    "balanced_bagging": Recipe("balanced_bagging", {"bags": 10, "leaf": 20}, lists=4000),
    "rusboost": Recipe("rusboost", {"rounds": 50}, lists=4000),
    "easy_ensemble": Recipe("easy_ensemble", lists=4000),
}
BLENDED = (BASELINE, WHOLE, "lambdarank", "bagging", "logistic", "neural")
"""Members that blends are made of: those that score millions of rows in seconds. The yardstick among them: what differs most helps most."""

PLAIN = "none"
HEAVY: tuple[str, ...] = ("adasyn", "borderline_smote", "tomek", "smote_enn", "smote_tomek")
"""Resamplers that look for the neighbours of every row: held against `none` on the same few rows."""
LIGHT: tuple[str, ...] = tuple(name for name in RESAMPLERS if name != PLAIN and name not in HEAVY)
RESAMPLED, FEW = 1500, 250  # training lists of the resamplers' comparison, and of the heavy ones'
VARIED = Recipe("boosting", {"learning_rate": 0.08, "rounds": 100, "leaves": 31})
"""What resamplers are held against each other with: as many rows again would take fewer, larger steps."""
ABLATED = 3000  # training lists of the ablations
SHORT = 700  # test lists, evenly spread, that each method is measured on; yardstick, repeat rule and choice: on all
GENERATORS: Mapping[str, Mapping[str, Any]] = {name: {"steps": 400} for name in ("gan", "wgan_gp")}

SHARES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the room for discovery, tried on validation lists, the least first."""
ENOUGH_NEW = 0.22
"""Recall of new positives asked of validation lists: the mark of .20 and what two samples of lists differ by."""


def strength(resampler: str) -> float:
    """Positives per negative asked of a resampler: even classes of the two that published checks made even, else 3 to 10."""
    return 1.0 if resampler in ("random_under", "random_over") else 0.3
